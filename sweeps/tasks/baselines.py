"""Baselines: every published recipe, trained as its author did, from several seeds.

A baseline is a study without a search: one recipe, a trial a seed. It runs, resumes, and is mended as every study.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

import models
from models import Protocol
from pipelines import backend, device
from pipelines.datasets.known import KNOWN
from pipelines.errors import UserError, nearest
from pipelines.tracking import store as tracking
from pipelines.tracking.records import RunFacts
from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores.record import find
from sweeps.study.study import Study
from sweeps.study.study_file import check

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
    population: int = 1  # seeds that train at once, where a recipe's protocol lets them

    def as_published(self, name: str) -> bool:
        """Whether recipe `name` is trained as published."""
        own = self.protocol in (None, models.recipe(name).protocol)
        return own and self.dataset == "mnist" and self.epochs is None


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
    if plan.dataset not in KNOWN:
        raise UserError(
            f"unknown dataset {plan.dataset!r}{nearest(plan.dataset, KNOWN)}: expected one of {', '.join(KNOWN)}"
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
            "population": plan.population if protocol != "reshuffled" else 1,
        },
        f"recipe {name}",
    )


def run(plan: Plan, console: Console) -> bool:
    """Train what is missing; return False when Ctrl-C ended it. The same plan resumes it."""
    place = place_of(plan.device)
    for index, name in enumerate(plan.recipes, 1):
        wanted = study(plan, name, place)
        finished_runs(wanted, place)  # refuses runs under other settings
        if ended(wanted) >= plan.seeds:
            continue
        epochs = wanted.settings.epochs
        console.print(f"baseline {index} of {len(plan.recipes)}: {name}, {plan.seeds} seeds, {epochs} epochs each")
        if launch.run(wanted, ThisMachine(device=plan.device), console, phase="baseline").stopped:
            return False
    return True


def place_of(wanted: backend.Device) -> str:
    """Return "cpu" or "gpu": where workers will train. The backend decides: a GPU may be there that it was not built for."""
    if wanted == "cpu" or not device.gpus():
        return "cpu"
    ask = "import sweeps; from pipelines import backend; backend.configure(); print(backend.describe()['device'])"
    asked = subprocess.run([sys.executable, "-P", "-c", ask], capture_output=True, text=True)
    return "gpu" if wanted == "gpu" or asked.stdout.strip().endswith("gpu") else "cpu"


def ended(study: Study) -> int:
    """Return how many of a baseline's seeds have ended for good.

    Diverged and failed ones too: another seed in place of one that diverged would be choosing.
    """
    stored = find(study.name)
    if stored is None:
        return 0
    trials = stored.store.trials()[: study.budget.trials]
    return sum(trial.state.is_finished() for trial in trials)


def finished_runs(study: Study, place: str) -> list[RunFacts]:
    """Return the finished runs of a baseline's seeds, in the order of its trials.

    Raises UserError for runs under other settings than those of the recipe.
    """
    experiment = (
        tracking.find_experiment(study.name) if tracking.exists() else None
    )  # other machines' results need no Optuna
    runs = tracking.trial_runs(experiment.experiment_id) if experiment else []
    whole = [run for run in runs if run.status == "FINISHED" and {"test_accuracy", "parameters"} <= run.metrics.keys()]
    numbered = {int(run.tags["trial"]): run for run in whole}
    wanted = study.run_config({}, study.seed).params()
    found = []
    for number in sorted(numbered):
        run = numbered[number]
        for key, value in run.params.items():
            if key in wanted and key != "seed" and value != str(wanted[key]):
                raise UserError(
                    f"{study.name} has runs with {key}={value}, and the recipe now has {wanted[key]}: keep them, and train the "
                    "present recipe into another folder (MLRUNS_DIR)"
                )
        if number < (study.budget.trials or 0) and run.tags.get("device", place) == place:
            found.append(run)
    return found
