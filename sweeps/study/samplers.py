"""Samplers: which there are, which one a study has, and which points belong to trial numbers. Another is a line in SAMPLERS."""

import importlib.util
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution

from pipelines.errors import UserError
from sweeps.study.chosen import Chosen, named
from sweeps.study.space import Feasible, Params, distribution
from sweeps.study.study import Choice, Entry, Scalar, Study

SAMPLERS: dict[str, type[optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "gp": optuna.samplers.GPSampler,
    "qmc": optuna.samplers.QMCSampler,
}
GRID, AUTO = "grid", "auto"
SAMPLER_NAMES = (*SAMPLERS, GRID, AUTO)
NEEDS = {"gp": ("torch", "pip install torch"), "cmaes": ("cmaes", "pip install cmaes")}

LARGEST_GRID = 100_000
DRAWS = 100  # points that a sampler may propose until one meets the constraints
RANDOM_DRAWS = 300  # and so many random ones after those
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


def sampler(
    study: Study, trial_number: int, feasible: Feasible | None = None, given: Mapping[str, Any] | None = None
) -> optuna.samplers.BaseSampler:
    """Return the study's sampler, seeded for one trial: equal seeds in two workers would suggest the same point twice.

    `feasible`: whether a point may be trained; the sampler is asked again until it proposes one that may. `given`: parameters
    that are not to be chosen.
    """
    chosen = chosen_sampler(study)
    options: dict[str, Any] = dict(chosen.options)
    name = "random" if chosen.name == GRID else chosen.name  # a grid's points are fixed, see `points`
    if name == "tpe":
        conditional = any(entry.when for entry in study.search.values())
        grouped = conditional and not given and options.get("multivariate") is not False
        options = ({"group": True, "multivariate": True} if grouped else {}) | options
    elif name in ("cmaes", "gp", "qmc"):
        options = {"warn_independent_sampling": False} | options
    seed = own_seed = study.seed_of(trial_number)
    if name == "qmc":  # one sequence for all trials, so one seed; what it leaves to others differs by trial
        options["independent_sampler"] = _sampler("random", seed, {}, None)
        own_seed = study.seed % 2**32
    made = _sampler(name, own_seed, options, given)
    if feasible is None:
        return made
    asked = [(made, DRAWS)]
    if name == "gp":  # it would propose the same again
        asked = [(made, 1)]
    elif name == "tpe":
        # It takes the best of 24 candidates by what it knows: nothing of what is not feasible, and so it goes there. One
        # candidate is a draw from its model of good trials.
        asked = [(made, DRAWS // 5), (_sampler(name, seed, options | {"n_ei_candidates": 1}, given), DRAWS)]
    return _FeasibleSampler([*asked, (_sampler("random", seed, {}, given), RANDOM_DRAWS)], study.search, feasible)


def _sampler(
    name: str, seed: int, options: Mapping[str, Any], given: Mapping[str, Any] | None
) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = SAMPLERS[name](seed=seed, **options)  # type: ignore[call-arg]
        return optuna.samplers.PartialFixedSampler(dict(given), made) if given else made


def points(study: Study) -> list[Params]:
    """Return the parameters that belong to trial numbers: the start points, then, for a grid, all others in a seeded order.

    Raises UserError for a grid that has no end or too many points.
    """
    fixed: list[Params] = [dict(point) for point in study.start_points]
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


def _grid(study: Study) -> list[Params]:
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


class _FeasibleSampler(optuna.samplers.BaseSampler):
    """Samplers that are asked again until a point may be trained, so that no trial is spent on one that may not."""

    def __init__(
        self,
        samplers: Sequence[tuple[optuna.samplers.BaseSampler, int]],  # in their order, each with how often it is asked
        search: Mapping[str, Entry],
        feasible: Feasible,
    ):
        self._samplers, self._feasible = samplers, feasible
        self._search, self._space = search, {name: distribution(entry) for name, entry in search.items()}

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, BaseDistribution]) -> Params:
        params: Params = {}
        for sampler, draws in self._samplers:
            own_space = sampler.infer_relative_search_space(study, trial)
            for _ in range(draws):
                params = self._draw(sampler, own_space, study, trial)
                if self._feasible(params):
                    return params
        return params

    def _draw(
        self, sampler: optuna.samplers.BaseSampler, own_space: dict[str, BaseDistribution], study: Any, trial: Any
    ) -> Params:
        drawn = sampler.sample_relative(study, trial, own_space) | trial.params  # a retried trial may have some already
        params: Params = {}
        for name, entry in self._search.items():
            if not entry.active(params):
                continue
            if name not in drawn:
                drawn[name] = sampler.sample_independent(study, trial, name, self._space[name])
            params[name] = entry.exact(drawn[name])
        return params

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self._samplers[-1][0].sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Any, trial: Any) -> None:
        self._samplers[0][0].before_trial(study, trial)


def has(sampler_name: str) -> bool:
    """Whether what a sampler needs is installed."""
    return importlib.util.find_spec(NEEDS[sampler_name][0]) is not None
