"""Rerun: any logged run trained again from its run id alone, and how far the results differ."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pipelines import backend, predictions
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from pipelines.tracking.names import CURVE
from pipelines.tracking.records import RunFacts
from pipelines.tracking.run import MODEL_FILE, PREDICTIONS, PROBABILITIES
from sweeps.results import rows
from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores.record import StoredStudy, by_uid
from sweeps.study import study_file
from sweeps.study.study import Study
from sweeps.tasks import logged

CUT_SHORT = ("pruned", "budget", "stopped")  # ends of a run that was not over by itself


def run(run_id: str, device: backend.Device, console: Console) -> bool:
    """Train a run again, beside it in its study, and say what differs; return False when Ctrl-C ended it.

    A run that a pruner or a budget ended is trained for as many epochs. The same call resumes it, and once done, only
    compares. Raises UserError for what is no trial's run, and for other images than those it had.
    """
    original = logged.find(run_id)
    study = study_of(original)
    owner = by_uid(tracking.current_study(original.experiment_id))
    if launch.run(study, ThisMachine(device=device), console, "rerun", owner=owner.name if owner else None).stopped:
        return False
    again = _run_of(study)
    for line in [*_surroundings(original, again), *compare(original, again)]:
        console.print(line, soft_wrap=True)
    return True


def study_of(run: RunFacts) -> Study:
    """Return the study, of one trial, that trains a run again.

    Raises UserError where the run's parameters are no training's, and where its images are other ones here.
    """
    config = logged.configuration(run)
    training = config.training.model_dump()
    if run.tags.get("ended") in CUT_SHORT:
        trained = int(run.metrics.get("epochs_trained", 0)) // len(config.seeds())
        training["epochs"] = max(1, trained)
    return study_file.check(
        {
            "name": f"rerun-{run.run_id}",
            "model": config.model,
            "dataset": config.dataset.content(),
            "protocol": config.protocol,
            "arguments": config.changed_arguments(),
            "training": training,
            "search": {},
            "task": config.task,
            "objectives": [{"name": config.objective, "direction": config.direction or config.measured[0].direction}],
            "metrics": config.metrics,
            "repeats": config.repeats,
            "folds": config.folds,
            "seeds": [config.seed],
            "budget": {"trials": 1},
            "keep_models": None if any(name.endswith(MODEL_FILE) for name in tracking.artifacts(run.run_id)) else 0,
            "targets": [],
        },
        f"run {run.run_id}",
    )


def compare(original: RunFacts, again: RunFacts) -> Iterator[str]:
    """Yield how far the curves, the summary and the predictions of two runs of one configuration differ."""
    ids = original.run_id, again.run_id
    yield f"run {ids[0]} and its rerun {ids[1]}:"
    measured = rows.measured_of(original)
    in_training = [name for name in ("loss", "accuracy") if name in original.metrics]
    curves = [*in_training, *(f"{CURVE}val_{name}" for name in measured)]
    summary = [f"{part}_{name}" for part in rows.PARTS for name in measured]
    differences = [
        *_of_the_ends(original, again),
        *_of_the_curves(curves, *ids),
        *_of_the_summaries(summary, original, again),
    ]
    yield from (f"  {difference}" for difference in differences)
    predicted = [_predictions(run_id) for run_id in ids]
    otherwise = 0
    if all(len(each) for each in predicted) and predicted[0].shape == predicted[1].shape:
        otherwise = int((predicted[0] != predicted[1]).reshape(len(predicted[0]), -1).any(axis=1).sum())
        yield f"  {otherwise} of {len(predicted[0])} predictions on test images are others"
    else:
        yield "  predictions: not compared, since one of the runs has none"
    epochs = len(tracking.history(ids[0], "loss"))
    if not epochs:
        yield "  nothing to compare: the run has no epoch"
    else:
        yield (
            f"  not equal ({epochs} epochs)"
            if differences or otherwise
            else f"  equal, bit for bit, in {epochs} epochs"
        )


def _of_the_ends(*runs: RunFacts) -> Iterator[str]:
    then, now = (run.tags.get("ended", "nothing known") for run in runs)
    if now != ("completed" if then in CUT_SHORT else then):  # which ends in its own time now
        yield f"ended as {then}; now as {now}"


def _of_the_curves(curves: Sequence[str], *run_ids: str) -> Iterator[str]:
    for name in curves:
        then, now = (tracking.history(run_id, name) for run_id in run_ids)
        both = sorted(set(then) & set(now))
        apart = [step for step in both if not _same(then[step], now[step])]
        if apart:
            most = max(abs(then[step] - now[step]) for step in apart)
            yield f"{name} differs from epoch {apart[0]} on, by {most:.3g} at most, in {len(apart)} of {len(both)} epochs"
        if len(then) != len(now):
            yield f"{name}: {len(then)} epochs then, {len(now)} now"


def _of_the_summaries(summary: Sequence[str], *runs: RunFacts) -> Iterator[str]:
    for name in summary:
        then, now = (run.metrics.get(name, float("nan")) for run in runs)
        if not _same(then, now):
            yield f"{name}: {then:.6g} then, {now:.6g} now ({now - then:+.3g})"


def _same(then: float, now: float) -> bool:
    return then == now or (math.isnan(then) and math.isnan(now))


def _predictions(run_id: str) -> NDArray[Any]:
    """Return the classes that a run's models, one after the other, give the test images, or a regression's values.

    None where they are not stored.
    """
    names = sorted(name for name in tracking.artifacts(run_id) if Path(name).name in (PROBABILITIES, PREDICTIONS))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = tracking.artifact_folder(run_id, name, Path(folder))
            with np.load(path, allow_pickle=False) as file:
                predicted = predictions.unpacked("test", file)
                found.append(predicted.argmax(axis=1) if path.name == PROBABILITIES else predicted)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _run_of(study: Study) -> RunFacts:
    """Return the run of the one trial of a rerun."""
    found = StoredStudy(study.name).trial_runs()
    if not found:
        raise UserError(f"study {study.name} has no run: sweep doctor --fix makes one")
    return found[0]


def _surroundings(original: RunFacts, again: RunFacts) -> Iterator[str]:
    """Yield what is no longer as it was: versions, backend, device, code, the model's source."""
    then, now = original.tags, again.tags
    versions = sorted(name for name in now if name.endswith("_version"))
    for name in ("backend", "device", "device_name", "git_commit", "git_dirty", "model_digest", *versions):
        if name in then and name in now and then[name] != now[name]:
            yield f"{name} was {then[name]}, is {now[name]}"
