"""Reading back: tidy DataFrames of one study at a time, the best by the study's first objective first."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from pipelines.tracking import facts
from pipelines.tracking.records import RunFacts
from sweeps.results import rows
from sweeps.results.rows import PARTS, WANTED, experiment_of, measured_of, objectives_of, row

WHOLE = {"trial", "parameters", "epochs", "kept_epoch"}
MEASURED = {"seconds", "samples_per_second", "gpu_hours"}
WORDS = {"study", "state", "model", "device", "dataset"}


def studies() -> pd.DataFrame:
    """Return the studies that have been run, the latest first: study, experiment_id, phase, last_used (UTC)."""
    frame = pd.DataFrame(
        [vars(each) for each in rows.studies()], columns=["study", "experiment_id", "phase", "last_used"]
    )
    frame["last_used"] = pd.to_datetime(frame.last_used, unit="s", utc=True)
    return frame


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
    experiment_id = experiment_of(study)
    return _table(facts.of_trials(experiment_id, WANTED)) if experiment_id else _table([])


def _together(names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of several studies in one table, ranked as those of one."""
    found = {
        name: facts.of_trials(experiment_id, WANTED) if (experiment_id := experiment_of(name)) else [] for name in names
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
    experiment_id = experiment_of(study)
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


def _table(found: Sequence[RunFacts]) -> pd.DataFrame:
    if not found:
        return pd.DataFrame(
            columns=["study", "trial", "state", "val_accuracy", "test_accuracy", "epochs", "seconds", "run_id"]
        )
    measured = {f"{part}_{name}{end}" for name in measured_of(found[0]) for part in PARTS for end in ("", "_sd")}
    known = [row(run) for run in found]
    order = rows.order(known, objectives_of(found[0]))
    return _typed(pd.DataFrame(known), measured).iloc[order].reset_index(drop=True)


def _typed(frame: pd.DataFrame, measured: Collection[str]) -> pd.DataFrame:
    for name in frame.columns:
        if name in WHOLE:
            frame[name] = frame[name].astype("Float64").astype("Int64")
        elif name in MEASURED or name in measured:
            frame[name] = frame[name].astype("float64")
        elif name in WORDS:
            frame[name] = frame[name].astype("category")
        elif name not in ("run_id", "failure", "on_front"):
            frame[name] = _typed_text(frame[name])
    return frame


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
