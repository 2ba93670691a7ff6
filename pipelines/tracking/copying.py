"""Copying runs from one MLflow store to another, whole or not at all, and comparing the copies with the originals."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Experiment, Metric, Param, RunTag

from pipelines.tracking import store
from pipelines.tracking.records import RunFacts
from pipelines.tracking.run import CHECKPOINT

ORIGINAL = "migrated_from"  # tags of a copy: the run that it is of,
WHOLE = "migrated_whole"  # and that nothing is missing
BATCH = 500  # metrics a request


class Copier:
    """Copies runs from the store at `source` to that at `target`; `run_ids`: of the copies, by the original's."""

    def __init__(self, source: str, target: str):
        self._source, self._target = store.client_of(source), store.client_of(target)
        self.run_ids: dict[str, str] = {}

    def open_experiment(self, name: str) -> str:
        """Return the id of the experiment called `name` at the target, made if missing; its tags are those of the original."""
        original = self._source.get_experiment_by_name(name)
        found: Experiment | None = self._target.get_experiment_by_name(name)
        experiment_id = found.experiment_id if found else self._target.create_experiment(name)
        for key, value in original.tags.items() if original else ():
            self._target.set_experiment_tag(experiment_id, key, value)
        return str(experiment_id)

    def copy(self, run: RunFacts, experiment_id: str, checkpoints: Sequence[Path]) -> None:
        """Copy a run, unless it is there whole. `checkpoints`: an unfinished one's, on this machine."""
        known = self._copies(run, experiment_id)
        whole = [copy for copy in known if WHOLE in copy.tags]
        if whole:
            self.run_ids[run.run_id] = whole[0].run_id
            return
        for part in known:  # an earlier call was interrupted
            self._target.delete_run(part.run_id)
        tags = self.translated(run.tags) | {ORIGINAL: run.run_id}
        copy_id = self._target.create_run(experiment_id, run.start_time, tags, run.name).info.run_id
        params = [Param(key, value) for key, value in run.params.items()]
        self._target.log_batch(copy_id, params=params)
        points = [
            point
            for name in _names(self._source, run.run_id)
            for point in self._source.get_metric_history(run.run_id, name)
        ]
        for begin in range(0, len(points), BATCH):
            batch = [
                Metric(point.key, point.value, point.timestamp, point.step) for point in points[begin : begin + BATCH]
            ]
            self._target.log_batch(copy_id, metrics=batch)
        if inputs := _inputs(self._source, run.run_id):
            self._target.log_inputs(copy_id, inputs)
        with tempfile.TemporaryDirectory() as name:
            folder = _download(self._source, run.run_id, Path(name))
            if any(folder.iterdir()):
                self._target.log_artifacts(copy_id, str(folder))
        for file in checkpoints:
            self._target.log_artifact(copy_id, str(file), f"{CHECKPOINT}/0")
        if run.end_time is not None and run.status != "SCHEDULED":
            self._target.set_terminated(copy_id, run.status, run.end_time)
        else:
            self._target.update_run(copy_id, status=run.status)
        self._target.log_batch(copy_id, tags=[RunTag(WHOLE, "true")])
        self.run_ids[run.run_id] = copy_id

    def differences(self, run: RunFacts, checkpoints: Sequence[Path]) -> Iterator[str]:
        """Yield what the copy of a run has otherwise: state, parameters, tags, every value of every metric, every file."""
        copy = RunFacts.of(self._target.get_run(self.run_ids[run.run_id]))
        wanted = self.translated(run.tags)
        facts: dict[str, tuple[Any, Any]] = {
            "status": (run.status, copy.status),
            "start": (run.start_time, copy.start_time),
            "parameters": (run.params, copy.params),
            "tags": (wanted, {key: copy.tags.get(key) for key in wanted}),
            "metrics": (_names(self._source, run.run_id), _names(self._target, copy.run_id)),
            "data sets": (_named(_inputs(self._source, run.run_id)), _named(_inputs(self._target, copy.run_id))),
        }
        for name in _names(self._source, run.run_id):
            facts[name] = (
                _points(self._source, run.run_id, name),
                _points(self._target, copy.run_id, name),
            )
        saved = {path.name: _digest(path) for path in checkpoints}
        facts["checkpoints"] = (saved, self._checkpoints(copy.run_id))
        facts["files"] = (_digests(self._source, run.run_id), _digests(self._target, copy.run_id))
        for name, (original, found) in facts.items():
            if original != found:
                yield f"run {run.run_id}: {name} differ"

    def translated(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return tags, or a trial's attributes, with the copies' ids in the place of the originals'."""
        ids = self.run_ids
        return {key: ids.get(value, value) if isinstance(value, str) else value for key, value in values.items()}

    def _checkpoints(self, run_id: str) -> dict[str, str]:
        """Return the digests of a copy's checkpoints, by file name."""
        if not self._target.list_artifacts(run_id, CHECKPOINT):
            return {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(self._target.download_artifacts(run_id, CHECKPOINT, name))
            return {path.name: _digest(path) for path in folder.glob("*/*.npz")}

    def _copies(self, run: RunFacts, experiment_id: str) -> list[RunFacts]:
        condition = f"tags.{ORIGINAL} = '{run.run_id}'"
        return list(map(RunFacts.of, self._target.search_runs([experiment_id], condition)))


def _download(client: MlflowClient, run_id: str, into: Path) -> Path:
    """Download a run's files but its checkpoints, which are brought up to date first and copied from here; return the folder."""
    for entry in client.list_artifacts(run_id):
        if entry.path != CHECKPOINT:
            client.download_artifacts(run_id, entry.path, str(into))
    return into


def _digests(client: MlflowClient, run_id: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as name:
        folder = _download(client, run_id, Path(name))
        return {path.relative_to(folder).as_posix(): _digest(path) for path in folder.rglob("*") if path.is_file()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _names(client: MlflowClient, run_id: str) -> list[str]:
    """Return what a run's metrics are called in the store."""
    return sorted(client.get_run(run_id).data.metrics)


def _points(client: MlflowClient, run_id: str, metric: str) -> list[tuple[int, str, int]]:
    history = client.get_metric_history(run_id, metric)
    return sorted((point.step, repr(point.value), point.timestamp) for point in history)


def _inputs(client: MlflowClient, run_id: str) -> list[DatasetInput]:
    inputs = client.get_run(run_id).inputs
    return list(inputs.dataset_inputs) if inputs else []


def _named(inputs: list[DatasetInput]) -> set[tuple[str, str]]:
    return {(each.dataset.name, each.dataset.digest) for each in inputs}
