"""Trial numbers: how many a study may have, which points belong to them, and which sampler chooses the others.

Without Optuna, so that whoever only looks at a study does not wait for it.
"""

import importlib.util
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import UserError
from sweeps.study.chosen import Chosen, named
from sweeps.study.study import Choice, Scalar, Study

GRID, AUTO = "grid", "auto"
NEEDS = {"gp": ("torch", "pip install torch"), "cmaes": ("cmaes", "pip install cmaes")}
LARGEST_GRID = 100_000
GP_TRIALS, CMAES_TRIALS = 500, 1_000  # Optuna's advice: Gaussian processes up to so many trials, CMA-ES from so many


def chosen_sampler(study: Study) -> Chosen:
    """Return the study's sampler; `auto` is chosen by search space and budget."""
    asked = named(study.sampler)
    if not study.search:
        return Chosen("random", {})
    if asked.name != AUTO:
        return asked
    trials = study.budget.trials
    numeric = not any(isinstance(entry, Choice) for entry in study.search.values())
    conditional = any(entry.when for entry in study.search.values())
    sizes = [entry.grid() for entry in study.search.values()]
    combinations = math.prod(len(values) for values in sizes if values is not None)
    if trials and None not in sizes and combinations <= trials:
        return Chosen(GRID, {}, f"all {combinations} combinations fit the budget")
    if len(study.objectives) > 1:
        return Chosen("tpe", {}, "several objectives")
    if conditional or not numeric:
        return Chosen("tpe", {}, "conditions in the search space" if conditional else "choices in the search space")
    if trials and trials >= CMAES_TRIALS:
        return Chosen("cmaes", {}, f"only numbers, and {trials} trials")
    if trials and trials <= GP_TRIALS and named(study.pruner).name == "none" and has("gp"):
        return Chosen("gp", {}, f"only numbers, {trials} trials, none pruned")
    return Chosen("tpe", {}, "learns from pruned trials too, of any number")


def points(study: Study) -> list[dict[str, Any]]:
    """Return the parameters that belong to trial numbers: the start points, then, for a grid, all others in a seeded order.

    Raises UserError for a grid that has no end or too many points.
    """
    fixed: list[dict[str, Any]] = [dict(point) for point in study.start_points]
    if chosen_sampler(study).name != GRID:
        return fixed
    seen = {_key(point) for point in fixed}
    rest = [point for point in _grid(study) if _key(point) not in seen]
    order = np.random.default_rng(study.seed).permutation(len(rest))
    return fixed + [rest[index] for index in order]


def tickets(study: Study) -> int | None:
    """Return how many trials the study may have: its budget's, and no more than its grid has points; None: any number."""
    limit = study.budget.trials
    if chosen_sampler(study).name != GRID:
        return limit
    return min(len(points(study)), limit or LARGEST_GRID)


def _grid(study: Study) -> list[dict[str, Any]]:
    axes: dict[str, Sequence[Scalar]] = {}
    for name, entry in study.search.items():
        values = entry.grid()
        if values is None:
            raise UserError(
                f"sampler grid: {name} is a range of floats, which has no end: give it a step, or list its values as a choice"
            )
        axes[name] = values
    size = math.prod(len(values) for values in axes.values())
    if size > LARGEST_GRID:
        raise UserError(
            f"sampler grid: {size:,} combinations, at most {LARGEST_GRID:,} are allowed: take larger steps, or sampler random"
        )
    combinations = (study.active(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values()))
    return list({_key(point): point for point in combinations}.values())  # conditions make some of them equal


def _key(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, type(value) is bool, value) for name, value in sorted(point.items()))


def has(sampler_name: str) -> bool:
    """Whether what a sampler needs is installed."""
    return importlib.util.find_spec(NEEDS[sampler_name][0]) is not None
