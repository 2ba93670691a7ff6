"""Baselines: every published recipe, trained as its author did, from several seeds.

A baseline is a study without a search: one recipe, a trial a seed. It runs, resumes, and is mended as every study.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

import models
from models import Protocol
from pipelines import backend, data, device
from pipelines.errors import UserError, nearest
from pipelines.tracking import store as tracking
from sweeps import launch
from sweeps.study import Study
from sweeps.study_file import check

HANGS_AFTER = 4 * 3600.0  # seconds without an epoch


@dataclass(frozen=True)
class Plan:
    """What to train: `recipes` in their order, each from `seeds` seeds.

    `epochs` and `protocol`: in place of the published ones; the numbers then are not those of the published systems.
    """

    recipes: Sequence[str]
    seeds: int = 3
    dataset: str = "mnist"
    device: backend.Device = "auto"
    epochs: int | None = None
    protocol: Protocol | None = None

    @property
    def published(self) -> bool:
        """Whether all is as published."""
        return self.dataset == "mnist" and self.epochs is None and self.protocol is None


def check_plan(plan: Plan) -> None:
    """Raise UserError for a plan that cannot be carried out."""
    for name in plan.recipes:
        if name not in models.MODELS:
            raise UserError(
                f"there is no recipe {name!r}{nearest(name, models.MODELS)}: expected one of {', '.join(models.MODELS)}; a "
                "model of your own is trained from several seeds by a study with search: {}"
            )
    if plan.seeds < 1:
        raise UserError(f"SEEDS={plan.seeds}: expected at least 1, and 2 or more for an interval")
    if plan.epochs is not None and plan.epochs < 1:
        raise UserError(f"EPOCHS={plan.epochs}: expected at least 1")
    if plan.dataset not in data.DATASETS:
        known = ", ".join(data.DATASETS)
        raise UserError(
            f"unknown dataset {plan.dataset!r}{nearest(plan.dataset, data.DATASETS)}: expected one of {known}"
        )
    misfits = [name for name in plan.recipes if models.recipe(name).protocol != "reshuffled"]
    if plan.protocol == "reshuffled" and misfits:
        raise UserError(
            f"{misfits[0]} was published on the official test images, and protocol reshuffled has others: leave the protocol "
            "out, or name only recipes that were published so"
        )


def study(plan: Plan, name: str, place: str) -> Study:
    """Return the study that trains recipe `name` on "cpu" or "gpu": its settings, the last epoch kept, a trial a seed."""
    recipe = models.recipe(name)
    protocol = plan.protocol or recipe.protocol
    marks = [
        protocol if protocol != recipe.protocol else "",
        plan.dataset if plan.dataset != "mnist" else "",
        f"{plan.epochs}epochs" if plan.epochs else "",
        place if place != "cpu" else "",
    ]
    training = {**recipe.training, "keep": "last"} | ({"epochs": plan.epochs} if plan.epochs else {})
    return check(
        {
            "name": "-".join(["baseline", name, *filter(None, marks)]),
            "model": name,
            "dataset": plan.dataset,
            "protocol": protocol,
            "training": training,
            "search": {},
            "budget": {"trials": plan.seeds},
            "trial_timeout": HANGS_AFTER,
            "keep_models": 0,
        },
        f"recipe {name}",
    )


def run(plan: Plan, console: Console) -> bool:
    """Train what is missing; return False when Ctrl-C ended it. The same plan goes on where it was."""
    place = "gpu" if plan.device != "cpu" and device.gpus() else "cpu"
    for index, name in enumerate(plan.recipes, 1):
        wanted = study(plan, name, place)
        if len(finished_runs(wanted.name)) >= plan.seeds:
            continue
        epochs = wanted.settings.epochs
        console.print(f"baseline {index} of {len(plan.recipes)}: {name}, {plan.seeds} seeds, {epochs} epochs each")
        if launch.run(wanted, 1, plan.device, console, phase="baseline").interrupted:
            return False
    return True


def finished_runs(name: str) -> list[Any]:
    """Return the finished runs of a baseline's study, in the order of their trials."""
    if not tracking.exists():
        return []
    experiment = tracking.find_experiment(name)
    runs = tracking.trial_runs(experiment.experiment_id) if experiment else []
    return sorted((run for run in runs if run.info.status == "FINISHED"), key=lambda run: int(run.data.tags["trial"]))
