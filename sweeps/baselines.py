"""Baselines: every published recipe, trained as its author did from several seeds, beside the number that was published.

A baseline is a study without a search: one recipe, a trial a seed. It runs, resumes, and is mended as every study.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import models
from models import Protocol
from pipelines import backend, data
from pipelines import device as devices
from pipelines.errors import UserError, nearest
from pipelines.tracking import store as tracking
from sweeps import launch
from sweeps.statistics import Summary, summary
from sweeps.study import Study
from sweeps.study_file import check

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"  # what is between them is written anew
PROTOCOLS = {
    "official": "official: 60,000 train, test images watched",
    "held_out": "held out: 54,000 train, 6,000 validate",
    "reshuffled": "reshuffled: other test images",
}
NOT_HERE = "–"


@dataclass(frozen=True)
class Plan:
    """What to train: `recipes` in their order, each from `seeds` seeds.

    `epochs` and `protocol`: in place of the published ones; the rows then are not those of the published systems.
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


@dataclass(frozen=True)
class Row:
    """What the seeds of one recipe came to on one device; accuracies in percent, times in seconds."""

    recipe: str
    protocol: Protocol
    device: str
    accuracies: tuple[float, ...]
    parameters: int
    epochs: int
    epoch_seconds: tuple[float, float, float]  # lowest, median, highest
    commits: tuple[str, ...]

    @property
    def summary(self) -> Summary:
        """Mean, deviation and intervals of the accuracies."""
        return summary(self.accuracies)


def plan(
    only: Sequence[str],
    seeds: int,
    dataset: str,
    device: backend.Device,
    epochs: int | None,
    protocol: Protocol | None,
) -> Plan:
    """Check what was asked for; raises UserError."""
    for name in only:
        if name not in models.MODELS:
            known = ", ".join(models.MODELS)
            raise UserError(
                f"there is no recipe {name!r}{nearest(name, models.MODELS)}: expected one of {known}; a model of your own "
                "is trained from several seeds by a study with search: {}"
            )
    if seeds < 1:
        raise UserError(f"SEEDS={seeds}: expected at least 1, and 2 for an interval")
    if epochs is not None and epochs < 1:
        raise UserError(f"EPOCHS={epochs}: expected at least 1")
    if dataset not in data.DATASETS:
        raise UserError(
            f"unknown dataset {dataset!r}{nearest(dataset, data.DATASETS)}: expected one of {', '.join(data.DATASETS)}"
        )
    recipes = [name for name in models.MODELS if not only or name in only]
    misfits = [name for name in recipes if models.recipe(name).protocol != "reshuffled"]
    if protocol == "reshuffled" and misfits:
        raise UserError(
            f"{misfits[0]} was published on the official test images, and protocol reshuffled has others: leave --protocol out, or "
            "name with --only a recipe that was published so"
        )
    return Plan(recipes, seeds, dataset, device, epochs, protocol)


def study(plan: Plan, name: str) -> Study:
    """Return the study that trains recipe `name`: its settings, the last epoch kept, a trial a seed."""
    recipe = models.recipe(name)
    protocol = plan.protocol or recipe.protocol
    marks = [
        protocol if protocol != recipe.protocol else "",
        plan.dataset if plan.dataset != "mnist" else "",
        f"{plan.epochs}epochs" if plan.epochs else "",
        "gpu" if _place(plan.device) == "gpu" else "",
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
            "trial_timeout": 4 * 3600.0,
            "keep_models": 0,
        },
        f"recipe {name}",
    )


def run(plan: Plan, console: Console) -> bool:
    """Train what is missing; return False when Ctrl-C ended it. The same plan goes on where it was."""
    for index, name in enumerate(plan.recipes, 1):
        wanted = study(plan, name)
        if len(_trials(wanted.name)) >= plan.seeds:
            continue
        console.print(
            f"baseline {index} of {len(plan.recipes)}: {name}, {plan.seeds} seeds of {wanted.settings.epochs} epochs"
        )
        if launch.run(wanted, 1, plan.device, console, phase="baseline").interrupted:
            return False
    return True


def _trials(name: str) -> list[Any]:
    """Return the finished runs of a baseline, in the order of their trials."""
    if not tracking.exists():
        return []
    experiment = tracking.find_experiment(name)
    runs = tracking.trial_runs(experiment.experiment_id) if experiment else []
    return sorted((run for run in runs if run.info.status == "FINISHED"), key=lambda run: int(run.data.tags["trial"]))


def _place(device: backend.Device) -> str:
    return "gpu" if device != "cpu" and devices.gpus() else "cpu"


def report(plan: Plan, console: Console, output: Path) -> None:
    pass
