"""Reading back: tidy DataFrames of one study at a time, the best by the study's first objective first."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from pipelines import paths
from pipelines.errors import UserError
from pipelines.tracking import facts
from pipelines.tracking import store as tracking
from pipelines.tracking.records import RunFacts
from sweeps.study.study import Objective

WHOLE = {"trial", "parameters", "epochs", "kept_epoch"}
MEASURED = {"seconds", "samples_per_second", "gpu_hours"}
PARTS = ("val", "test")  # the images that a metric's column is of
BEFORE = "accuracy,loss"  # what runs without a tag `metrics` were measured by, of versions before
ENDS = {"diverged", "infeasible", "stopped"}  # of trials that MLflow knows as killed; the others were pruned
WORDS = {"study", "state", "model", "device", "dataset"}
WANTED = facts.Wanted(
    metrics=("parameters", "epochs_trained", "kept_epoch", "seconds", "samples_per_second", "gpu_hours"),
    tags=("study", "trial", "ended", "failure", "device", "dataset", "objectives", "metrics"),
)
RENAMED = {"epochs": "max_epochs"}  # the setting; `epochs` are those trained
STATES = {"RUNNING": "running", "SCHEDULED": "waiting", "FINISHED": "complete", "KILLED": "pruned", "FAILED": "failed"}


def studies() -> pd.DataFrame:
    """Return the studies that have been run, the latest first: study, experiment_id, phase, last_used (UTC)."""
    if not tracking.exists():
        return pd.DataFrame(columns=["study", "experiment_id", "phase", "last_used"])
    rows = [
        {
            "study": experiment.name,
            "experiment_id": experiment.experiment_id,
            "phase": experiment.tags.get(tracking.PHASE, "sweep"),
            "last_used": pd.to_datetime(int(experiment.tags[tracking.LAST_USED]), unit="s", utc=True),
        }
        for experiment in tracking.all_experiments()
        if tracking.LAST_USED in experiment.tags
    ]
    frame = pd.DataFrame(rows, columns=["study", "experiment_id", "phase", "last_used"])
    return frame.sort_values("last_used", ascending=False, ignore_index=True)


def runs(study: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row a trial of one study, or of several: complete first, the best by the first objective on validation first.

    `study`: its name, or a list of names; the latest sweep that has trials if not given. What one of several does not have is
    missing in its rows.
    Columns: study, trial, state (complete, pruned, diverged, infeasible, stopped, failed, running, waiting), val_NAME and
    test_NAME of the kept epoch for every metric that was measured, the first objective first (val_accuracy, test_accuracy,
    val_loss, …; accuracies 0 to 1; NaN where unknown), every hyperparameter and training setting (`epochs` as max_epochs),
    protocol if it is not held_out, task if it is regression, model, parameters, epochs (trained), kept_epoch (from 1), seconds
    (of training), samples_per_second, gpu_hours (seconds times the share of a GPU, where trained on one), device, dataset,
    run_id.
    A trial of several models (`repeats` or `folds`) has the means, their standard deviations as val_NAME_sd and test_NAME_sd, the
    epochs of all together, and no kept_epoch. Where trials failed, `failure` says why.
    Where the protocol holds no images out, val_NAME is NaN.
    A study of several objectives has `on_front`: whether no other complete trial is better in one of them and as good in the
    rest; those come first.
    Raises UserError for an unknown study, and for several that optimise different things.
    """
    if study is not None and not isinstance(study, str):
        return _together(list(dict.fromkeys(study)))
    experiment_id = _experiment(study)
    return _table(facts.of_trials(experiment_id, WANTED)) if experiment_id else _table([])


def _together(names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of several studies in one table, ranked as those of one."""
    found = {
        name: facts.of_trials(experiment_id, WANTED) if (experiment_id := _experiment(name)) else [] for name in names
    }
    optimised = {", ".join(map(str, objectives_of(own[0]))): name for name, own in found.items() if own}
    if len(optimised) > 1:
        listed = ", ".join(f"{name} by {objectives}" for objectives, name in optimised.items())
        raise UserError(
            f"the studies cannot be ranked together, for they are optimised differently ({listed}): read each by itself"
        )
    return _table([run for own in found.values() for run in own])


def best_runs(study: str | None = None, top: int = 10) -> pd.DataFrame:
    """Return the `top` complete trials of a study (the latest if not named), in the order of `runs`.

    Where MLflow's store is a database, no others are read. The columns, and their types, are those that these trials need.
    """
    experiment_id = _experiment(study)
    if experiment_id is None:
        return _table([])
    any_trial = facts.any_trial(experiment_id, WANTED)
    objectives = objectives_of(any_trial) if any_trial else []
    if len(objectives) == 1:
        best = facts.of_best_trials(experiment_id, WANTED, objectives[0].column, objectives[0].direction, top)
    else:
        best = facts.of_trials(experiment_id, WANTED)  # which of them are on the front, all together say
    frame = _table(best)
    return frame[frame.state == "complete"].head(top).reset_index(drop=True)


def _experiment(study: str | None) -> str | None:
    """Return the id of a study's experiment, of the latest sweep with trials if not named; None where nothing has begun."""
    known = studies()
    wanted = known[known.phase == "sweep"] if study is None else known[known.study == study]
    if known.empty:
        raise UserError(f"no study has been run yet: begin with {paths.command('run')}")
    if study is None and wanted.empty:
        raise UserError(
            f"only baselines have been run yet: name one of {', '.join(known.study)}, or begin with {paths.command('run')}"
        )
    if study is not None and wanted.empty:
        return _renamed(study, known)
    if study is not None:
        return str(wanted.experiment_id.iloc[0])
    return next((each for each in wanted.experiment_id if facts.any_trial(each, WANTED)), None)


def _renamed(study: str, known: pd.DataFrame) -> str:
    """Return the experiment of a study that has this name in Optuna's storage, and another in MLflow."""
    from sweeps.stores.record import find

    found = find(study)
    if found and found.owner:
        raise UserError(
            f"study {study!r} trains again what {found.owner!r} found: confirmations({found.owner!r}) has its seeds"
        )
    experiment = found.experiment() if found else None
    if experiment is None:
        raise UserError(f"study {study!r} has not been run: expected one of {', '.join(known.study)}")
    return str(experiment.experiment_id)


def _table(found: Sequence[RunFacts]) -> pd.DataFrame:
    if not found:
        return pd.DataFrame(
            columns=["study", "trial", "state", "val_accuracy", "test_accuracy", "epochs", "seconds", "run_id"]
        )
    measured = {f"{part}_{name}{end}" for name in measured_of(found[0]) for part in PARTS for end in ("", "_sd")}
    return _ordered(_typed(pd.DataFrame([row(run) for run in found]), measured), objectives_of(found[0]))


def objectives_of(run: RunFacts) -> list[Objective]:
    """Return what the study of a run optimises."""
    return [Objective.parse(text) for text in run.tags.get("objectives", "accuracy").split(",")]


def measured_of(run: RunFacts) -> list[str]:
    """Return the names of the metrics that a run was measured by, the first objective first."""
    names = [objective.short for objective in objectives_of(run) if objective.metric]
    return [*dict.fromkeys([*names, *run.tags.get("metrics", BEFORE).split(",")])]


def row(run: RunFacts) -> dict[str, Any]:
    """Return what is known of a trial from its run, as `runs` has it, untyped."""
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
        "parameters": metrics.get("parameters"),
        "epochs": metrics.get("epochs_trained"),
        "kept_epoch": metrics.get("kept_epoch"),
        "seconds": metrics.get("seconds"),
        "samples_per_second": metrics.get("samples_per_second"),
        **({"gpu_hours": metrics["gpu_hours"]} if "gpu_hours" in metrics else {}),
        "device": tags.get("device"),
        "dataset": tags["dataset"],
        **({"failure": tags["failure"]} if "failure" in tags else {}),
        "run_id": run.run_id,
    }


def _typed(frame: pd.DataFrame, measured: Collection[str]) -> pd.DataFrame:
    for name in frame.columns:
        if name in WHOLE:
            frame[name] = frame[name].astype("Float64").astype("Int64")
        elif name in MEASURED or name in measured:
            frame[name] = frame[name].astype("float64")
        elif name in WORDS:
            frame[name] = frame[name].astype("category")
        elif name not in ("run_id", "failure"):
            frame[name] = _typed_text(frame[name])
    return frame


def _ordered(frame: pd.DataFrame, objectives: list[Objective]) -> pd.DataFrame:
    """Return complete trials before the others, a front before the rest, the better by the first objective before the worse."""
    keys = {"incomplete": frame.state != "complete"}
    if len(objectives) > 1:
        from sweeps.stores.store import front

        complete = frame.state == "complete"
        measured = frame.loc[complete, [each.column for each in objectives]].astype("float64").to_numpy()
        frame["on_front"] = False
        frame.loc[complete, "on_front"] = front(measured, [each.direction for each in objectives])
        keys["behind"] = ~frame.on_front
    first = objectives[0]
    order = frame.assign(**keys).sort_values(
        [*keys, first.column, "trial"],
        ascending=[True] * len(keys) + [first.direction == "minimize", True],
        ignore_index=True,
    )
    return order.drop(columns=list(keys))


def _typed_text(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return tracked texts as whole numbers, numbers, truth values or categories, whichever fits all of them."""
    given = values.where(values.astype(str) != "None")
    present = given.dropna().astype(str)
    if present.isin(["True", "False"]).all() and len(present):
        return given.map({"True": True, "False": False}).astype("boolean")
    numbers = pd.to_numeric(given, errors="coerce")
    if numbers.notna().sum() != len(present):
        return given.astype("category")
    return numbers.astype("Int64") if present.str.fullmatch(r"-?\d+").all() else numbers.astype("float64")
