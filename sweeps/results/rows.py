"""Reading back, without pandas: the studies that there are, and what is known of each trial, ranked."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import paths
from pipelines.errors import UserError
from pipelines.metrics import as_cost
from pipelines.tracking import facts
from pipelines.tracking import store as tracking
from pipelines.tracking.records import RunFacts
from sweeps.stores.trials import front
from sweeps.study.study import Objective

PARTS = ("val", "test")  # the images that a metric's column is of
BEFORE = "accuracy,loss"  # what runs without a tag `metrics` were measured by, of versions before
ENDS = {"diverged", "infeasible", "stopped"}  # of trials that MLflow knows as killed; the others were pruned
WANTED = facts.Wanted(
    metrics=("parameters", "epochs_trained", "kept_epoch", "seconds", "samples_per_second", "gpu_hours"),
    tags=("study", "trial", "ended", "failure", "device", "dataset", "objectives", "metrics"),
)
RENAMED = {"epochs": "max_epochs"}  # the setting; `epochs` are those trained
STATES = {"RUNNING": "running", "SCHEDULED": "waiting", "FINISHED": "complete", "KILLED": "pruned", "FAILED": "failed"}

Row = dict[str, Any]  # one trial


@dataclass(frozen=True)
class Begun:
    """A study that has been run, by its present name in MLflow; `last_used`: Unix seconds."""

    study: str
    experiment_id: str
    phase: str
    last_used: int


def studies() -> list[Begun]:
    """Return the studies that have been run, the latest first."""
    found = [
        Begun(
            experiment.name,
            experiment.experiment_id,
            experiment.tags.get(tracking.PHASE, "sweep"),
            int(experiment.tags[tracking.LAST_USED]),
        )
        for experiment in (tracking.all_experiments() if tracking.exists() else [])
        if tracking.LAST_USED in experiment.tags
    ]
    return sorted(found, key=lambda each: -each.last_used)


def experiment_of(study: str | None) -> str | None:
    """Return the id of a study's experiment, of the latest sweep with trials if not named; None where nothing has begun."""
    known = studies()
    named = ", ".join(each.study for each in known)
    if not known:
        raise UserError(f"no study has been run yet: begin with {paths.command('run')}")
    if study is not None:
        own = [each.experiment_id for each in known if each.study == study]
        return own[0] if own else _renamed(study, named)
    sweeps = [each.experiment_id for each in known if each.phase == "sweep"]
    if not sweeps:
        raise UserError(f"only baselines have been run yet: name one of {named}, or begin with {paths.command('run')}")
    return next((each for each in sweeps if facts.any_trial(each, WANTED)), None)


def _renamed(study: str, known: str) -> str:
    """Return the experiment of a study that has this name in Optuna's storage, and another in MLflow."""
    from sweeps.stores.record import find

    found = find(study)
    if found and found.owner:
        raise UserError(
            f"study {study!r} trains again what {found.owner!r} found: confirmations({found.owner!r}) has its seeds"
        )
    experiment = found.experiment() if found else None
    if experiment is None:
        raise UserError(f"study {study!r} has not been run: expected one of {known}")
    return str(experiment.experiment_id)


def of_study(study: str | None) -> list[Row]:
    """Return the trials of a study, the latest sweep with trials if not named, in the order of `sweeps.runs`."""
    experiment_id = experiment_of(study)
    return ranked(facts.of_trials(experiment_id, WANTED)) if experiment_id else []


def ranked(found: Sequence[RunFacts]) -> list[Row]:
    """Return what is known of trials of one study: complete ones first, a front before the rest, the better before the worse."""
    rows = [row(run) for run in found]
    return [rows[index] for index in order(rows, objectives_of(found[0]))] if rows else []


def order(rows: Sequence[Row], objectives: Sequence[Objective]) -> list[int]:
    """Return the indices of rows, ranked; of several objectives each row is told whether it is `on_front`."""
    first = objectives[0]
    if len(objectives) > 1:
        complete = [each for each in rows if each["state"] == "complete"]
        values = [[_number(each[objective.column]) for objective in objectives] for each in complete]
        for each in rows:
            each["on_front"] = False
        for each, ahead in zip(complete, front(values, [each.direction for each in objectives]), strict=True):
            each["on_front"] = ahead

    def rank(index: int) -> tuple[bool, bool, bool, float, int]:
        each = rows[index]
        value = _number(each[first.column])
        cost = 0.0 if math.isnan(value) else as_cost(value, first.direction)
        return each["state"] != "complete", not each.get("on_front"), math.isnan(value), cost, each["trial"]

    return sorted(range(len(rows)), key=rank)


def objectives_of(run: RunFacts) -> list[Objective]:
    """Return what the study of a run optimises."""
    return [Objective.parse(text) for text in run.tags.get("objectives", "accuracy").split(",")]


def measured_of(run: RunFacts) -> list[str]:
    """Return the names of the metrics that a run was measured by, the first objective first."""
    names = [objective.short for objective in objectives_of(run) if objective.metric]
    return [*dict.fromkeys([*names, *run.tags.get("metrics", BEFORE).split(",")])]


def row(run: RunFacts) -> Row:
    """Return what is known of a trial from its run, as `sweeps.runs` has it; settings are texts, see `typed`."""
    tags, metrics, params = run.tags, run.metrics, run.params
    columns = [f"{part}_{name}" for name in measured_of(run) for part in PARTS]
    deviations = [f"{column}_sd" for column in columns]
    settings = {
        RENAMED.get(name, name): value for name, value in sorted(params.items()) if name not in ("model", "dataset")
    }
    return {
        "study": tags["study"],
        "trial": int(tags["trial"]),
        "state": ended if (ended := tags.get("ended")) in ENDS else STATES[run.status],
        **{column: metrics.get(column) for column in columns},
        **{column: metrics[column] for column in deviations if column in metrics},
        **settings,
        "model": params.get("model"),
        "parameters": _whole(metrics.get("parameters")),
        "epochs": _whole(metrics.get("epochs_trained")),
        "kept_epoch": _whole(metrics.get("kept_epoch")),
        "seconds": metrics.get("seconds"),
        "samples_per_second": metrics.get("samples_per_second"),
        **({"gpu_hours": metrics["gpu_hours"]} if "gpu_hours" in metrics else {}),
        "device": tags.get("device"),
        "dataset": tags["dataset"],
        **({"failure": tags["failure"]} if "failure" in tags else {}),
        "run_id": run.run_id,
    }


def typed(text: Any) -> Any:
    """Return a setting as MLflow has it, a text, as whole number, number, truth value, or text; None of none."""
    if text in (None, "None"):
        return None
    if text in ("True", "False"):
        return text == "True"
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def settings(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the settings of these names of a trial."""
    return {name: typed(row.get(RENAMED.get(name, name))) for name in names}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _whole(value: float | None) -> int | None:
    return None if value is None or math.isnan(value) else int(value)
