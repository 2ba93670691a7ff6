"""Rerun: any logged run trained again from its run id alone, and how far the results differ."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pipelines import backend, data, provenance
from pipelines.config import RunConfig
from pipelines.errors import UserError, first_line
from pipelines.tracking import store as tracking
from sweeps import launch, study_file
from sweeps.store import Store, study_names
from sweeps.study import Study
from sweeps.worker import model_digest

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")
SUMMARY = ("final_validation_accuracy", "test_accuracy", "test_loss")


def run(run_id: str, device: backend.Device, console: Console) -> bool:
    """Train a run again, beside it in its study, and say what differs; return False when Ctrl-C ended it.

    A run that a pruner or a budget ended is trained for as many epochs. The same call goes on where it was, and once done, only
    compares. Raises UserError for what is no trial's run, and for other images than those it had.
    """
    original = find(run_id)
    study = study_of(original)
    owner = tracking.client().get_experiment(original.info.experiment_id).name
    for difference in _surroundings(original, study):
        console.print(difference, soft_wrap=True)
    known = owner if owner in study_names() else None
    if launch.run(study, 1, device, console, "rerun", owner=known).interrupted:
        return False
    for line in compare(original, _run_of(study, known)):
        console.print(line, soft_wrap=True)
    return True


def find(run_id: str) -> Any:
    """Return a trial's run by its id; raises UserError where there is none."""
    if not tracking.exists() or tracking.lifecycle(run_id) is None:
        raise UserError(f"there is no run {run_id!r}: runs() has a column run_id, and the MLflow UI shows it")
    run = tracking.client().get_run(run_id)
    if "trial" not in run.data.tags:
        raise UserError(f"run {run_id} is a study's parent run, or another program's: expected the run of a trial")
    return run


def study_of(run: Any) -> Study:
    """Return the study, of one trial, that trains a run again.

    Raises UserError where the run's parameters are no training's, and where its images are other ones here.
    """
    try:
        config = RunConfig.from_params(run.data.params)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"the parameters of run {run.info.run_id} are not those of a training ({first_line(error)})"
        ) from error
    then, now = run.data.tags["dataset_digest"], data.under(config.protocol, config.dataset, config.seed).digest
    if then != now:
        raise UserError(
            f"run {run.info.run_id} was trained on {config.dataset} with digest {then}, and here it has {now}: point "
            "MNIST_DIR, or its like, at the same images"
        )
    training = config.training.model_dump()
    if run.data.tags.get("ended") in ("pruned", "budget"):
        trained = int(run.data.metrics.get("epochs_trained", 0)) // len(config.seeds())
        training["epochs"] = max(1, trained)
    return study_file.check(
        {
            "name": f"rerun-{run.info.run_id}",
            "model": config.model,
            "dataset": config.dataset,
            "protocol": config.protocol,
            "arguments": config.hyperparameters,
            "training": training,
            "search": {},
            "repeats": config.repeats,
            "folds": config.folds,
            "seeds": [config.seed],
            "budget": {"trials": 1},
            "targets": [],
        },
        f"run {run.info.run_id}",
    )


def compare(original: Any, again: Any) -> Iterator[str]:
    """Yield how far the curves, the summary and the predictions of two runs of one configuration differ."""
    ids = original.info.run_id, again.info.run_id
    yield f"run {ids[0]} and its rerun {ids[1]}:"
    equal = True
    for name in CURVES:
        then, now = (tracking.history(run_id, name) for run_id in ids)
        both = sorted(set(then) & set(now))
        apart = [step for step in both if then[step] != now[step]]
        equal = equal and not apart and len(both) == len(then) == len(now)
        if apart:
            most = max(abs(then[step] - now[step]) for step in both)
            yield f"  {name} differs from epoch {apart[0]} on, by {most:.3g} at most, in {len(apart)} of {len(both)} epochs"
        elif len(then) != len(now):
            yield f"  {name}: {len(then)} epochs then, {len(now)} now"
    for name in SUMMARY:
        then, now = (run.data.metrics.get(name) for run in (original, again))
        equal = equal and then == now
        if then is not None and now is not None and then != now:
            yield f"  {name}: {then:.6g} then, {now:.6g} now ({now - then:+.3g})"
        elif then != now:
            yield f"  {name}: {'none' if then is None else f'{then:.6g}'} then, {'none' if now is None else f'{now:.6g}'} now"
    otherwise, images = _predicted_otherwise(*ids)
    if images:
        yield f"  {otherwise} of {images} test images are classified otherwise"
    yield "  equal, bit for bit" if equal and not otherwise else "  not equal"


def _predicted_otherwise(*run_ids: str) -> tuple[int, int]:
    """Return how many test images two runs classify differently, of how many; of none where one has no predictions."""
    predicted = []
    with tempfile.TemporaryDirectory() as folder:
        for run_id in run_ids:
            if "probabilities.npz" not in tracking.artifacts(run_id):
                return 0, 0
            path = tracking.artifact_folder(run_id, "probabilities.npz", Path(folder) / run_id)
            with np.load(path, allow_pickle=False) as file:
                predicted.append(file["test"].argmax(axis=1))
    return int((predicted[0] != predicted[1]).sum()), len(predicted[0])


def _run_of(study: Study, owner: str | None) -> Any:
    """Return the run of the one trial of a rerun."""
    experiment = tracking.find_experiment(owner or study.name)
    uid = Store(study.name).attributes()["uid"]
    found = tracking.study_runs(experiment.experiment_id, uid) if experiment else []
    if not found:
        raise UserError(f"study {study.name} has no run: sweep doctor --fix makes one")
    return found[0]


def _surroundings(original: Any, study: Study) -> Iterator[str]:
    """Yield what is no longer as it was: versions, backend, code, the model's source."""
    now = backend.describe() | provenance.code() | {"model_digest": model_digest(study.model)}
    for name in ("backend", "device", "device_name", "git_commit", "git_dirty", "model_digest"):
        then = original.data.tags.get(name)
        if then is not None and name in now and then != now[name]:
            yield f"{name} was {then}, is {now[name]}"
    for name in sorted(name for name in now if name.endswith("_version")):
        if (then := original.data.tags.get(name)) is not None and then != now[name]:
            yield f"{name} was {then}, is {now[name]}"
