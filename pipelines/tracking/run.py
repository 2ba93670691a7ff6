"""One MLflow run: parameters once, one batch of metrics an epoch, a summary, artifacts, and the end state that is true."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from models import Source
from pipelines import checkpoint
from pipelines.errors import ArtifactError, first_line
from pipelines.tracking import bulk, names, store
from pipelines.tracking.bulk import MetricRow
from pipelines.train import EpochMetrics

MODEL_FILE = "model.keras"
PROBABILITIES, PREDICTIONS = "probabilities.npz", "predictions.npz"  # of a classification, of a regression
CHECKPOINT = "checkpoint"  # folder of a run's artifacts while it is unfinished
REQUESTS = 8  # to a server at a time
LAST_WRITTEN = "epoch_seconds"  # any metric of an epoch serves: they are written in one transaction


class TrackedRun:
    """A run that may be left and taken up again: no epoch and no summary is logged twice.

    Epochs wait here while the store does not answer, so that training goes on; the end of the run does not.
    """

    def __init__(self, run_id: str, *, new: bool = False):
        """`new`: it was created just now, and has no metrics."""
        self.run_id = run_id
        self._logged = set() if new else set(store.history(run_id, LAST_WRITTEN))  # steps
        self._former: bool | None = False if new else None  # whether its metrics have the names of before
        self._waiting: dict[int, tuple[dict[str, float], int]] = {}  # step: metrics, Unix milliseconds

    @property
    def waiting(self) -> int:
        """The number of epochs that wait to be logged."""
        return len(self._waiting)

    @classmethod
    def create(cls, experiment_id: str, parent_id: str, name: str, tags: Mapping[str, str]) -> "TrackedRun":
        """Create a child run of `parent_id`."""
        own = {
            names.PARENT_RUN: parent_id,
            names.RUN_NAME: name,
            names.SOURCE_NAME: "sweep",
            names.USER: psutil.Process().username(),
            names.COMMIT: tags["git_commit"],
        }
        return cls(store.client().create_run(experiment_id, tags=own | dict(tags)).info.run_id, new=True)

    def log_inputs(self, params: Mapping[str, Any], dataset: str, digest: str) -> None:
        """Log parameters and data set; doing so again changes nothing."""
        self.log_params(params)
        from mlflow.entities import Dataset, DatasetInput, InputTag

        used = Dataset(dataset, digest, source_type="local", source=dataset)
        inputs = [DatasetInput(used, [InputTag(names.DATASET_CONTEXT, "training")])]
        try:
            store.client().log_inputs(self.run_id, inputs)
        except store.TrackingError:  # two runs that name a data set first, at once, trip over each other in MLflow
            store.client().log_inputs(self.run_id, inputs)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; doing so again changes nothing."""
        from mlflow.entities import Param

        store.client().log_batch(self.run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def log_metric(self, name: str, value: float, step: int) -> None:
        """Log one value, whatever is there already."""
        self.log_metrics({name: value}, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log values, whatever is there already."""
        self._log(metrics, step, _now())

    def reopen(self) -> None:
        """Mark the run as running again; one that was put into the trash meanwhile is taken out."""
        if store.lifecycle(self.run_id) == "deleted":
            store.restore_run(self.run_id)
        store.client().update_run(self.run_id, status="RUNNING")

    def log_epoch(self, epoch: int, metrics: Sequence[EpochMetrics], further: Mapping[str, float]) -> None:
        """Log an epoch's metrics with `send_epochs`, unless they are there already; the step is `epoch` + 1, the epochs trained.

        `metrics`: one entry a model; of several, the mean is logged, and each one's as `epoch_val_NAME_1`, ….
        """
        step = epoch + 1
        if step not in self._logged:
            prefix = f"{names.CURVE}val_"
            each = {f"{prefix}{k}_{i}": v for i, m in enumerate(metrics, 1) for k, v in m.validation.items()}
            mean = EpochMetrics.mean(metrics).flat(prefix)
            self._waiting[step] = mean | (each if len(metrics) > 1 else {}) | dict(further), _now()
            self._logged.add(step)

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Log what is known once, at the end, unless it is there already."""
        self.send()
        known = names.present(store.client().get_run(self.run_id).data.metrics)
        self._log({key: value for key, value in metrics.items() if key not in known}, 0, _now())

    def log_artifacts(self, folder: Path) -> None:
        """Log every file in `folder`; files of the same name are replaced. Raises ArtifactError when their store is away."""
        try:
            store.client().log_artifacts(self.run_id, str(folder))
        except store.TrackingError:
            raise
        except Exception as error:  # every kind of artifact store raises its own
            raise ArtifactError(f"the files of run {self.run_id} cannot be written ({first_line(error)})") from error

    def log_source(self, source: Source, place: str = store.SOURCE_FOLDER) -> None:
        """Log the source of a user's model, or function: its files to be read, and `SOURCE_FILE` for `sources_of`.

        `place`: its folder among the run's files. Raises ArtifactError.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / place
            folder.mkdir(parents=True)
            source.write(folder)
            (folder / store.SOURCE_FILE).write_text(json.dumps(source.content()))
            self.log_artifacts(Path(name))

    def send_checkpoint(self, path: Path, epoch: int) -> None:
        """Log a run's checkpoints, where other machines reach the store: any may then go on with the run.

        Those of two epochs are kept in turn, so that one is whole at every moment. A store that does not answer is passed over.
        """
        if not store.shared():
            return
        try:
            for part in checkpoint.parts(path):
                store.client().log_artifact(self.run_id, str(part), f"{CHECKPOINT}/{epoch % 2}")
        except Exception as error:  # every kind of artifact store raises its own
            print(f"the checkpoint of epoch {epoch + 1} is on this machine alone ({first_line(error)})")

    def fetch_checkpoint(self, path: Path) -> None:
        """Bring the run's checkpoints here, where another machine has trained it further. Raises ArtifactError."""
        if not store.shared():
            return
        try:
            if not store.client().list_artifacts(self.run_id, CHECKPOINT):
                return
            with tempfile.TemporaryDirectory() as name:
                folder = store.artifact_folder(self.run_id, CHECKPOINT, Path(name))
                copies = [*folder.glob("*/*.npz")]
                for file in {copy.name for copy in copies}:
                    checkpoint.adopt(path.parent / file, [copy for copy in copies if copy.name == file])
        except store.TrackingError:
            raise
        except Exception as error:
            raise ArtifactError(f"the checkpoint of run {self.run_id} cannot be read ({first_line(error)})") from error

    def discard_checkpoint(self) -> None:
        """Delete the run's checkpoints from the store, when it needs none any more; else they cost room there."""
        if not store.shared():
            return
        try:
            if store.client().list_artifacts(self.run_id, CHECKPOINT):
                store.artifact_store(self.run_id).delete_artifacts(CHECKPOINT)  # type: ignore[no-untyped-call]
        except Exception as error:
            print(f"the checkpoint of run {self.run_id} could not be deleted ({first_line(error)})")

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, one by one."""
        store.set_tags(self.run_id, tags)

    def close(self, status: str) -> None:
        """End the run: FINISHED, KILLED or FAILED; or SCHEDULED when it is resumed later."""
        self.send()
        if status == "SCHEDULED":
            store.client().update_run(self.run_id, status=status)
        else:
            store.client().set_terminated(self.run_id, status)

    def send(self) -> None:
        """Log the epochs that wait."""
        for step, (metrics, when) in list(self._waiting.items()):
            self._log(metrics, step, when)
            del self._waiting[step]

    def rows(self) -> list[MetricRow]:
        """Return the epochs that wait, as they are logged."""
        return [
            MetricRow(self.run_id, name, value, when, step)
            for step, (metrics, when) in self._waiting.items()
            for name, value in self._named(metrics).items()
        ]

    def sent(self) -> None:
        """Note that what `rows` gave is logged."""
        self._waiting.clear()

    def _log(self, metrics: Mapping[str, float], step: int, when: int) -> None:
        from mlflow.entities import Metric

        store.client().log_batch(
            self.run_id, metrics=[Metric(key, value, when, step) for key, value in self._named(metrics).items()]
        )

    def _named(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return metrics under the names that this run's have."""
        if self._former is None:
            self._former = names.are_former(store.client().get_run(self.run_id).data.metrics)
        return {names.former(name): value for name, value in metrics.items()} if self._former else metrics


def send_epochs(runs: Sequence[TrackedRun]) -> None:
    """Log the epochs that wait, of many runs at once. While the store does not answer they wait on, and this says so."""
    try:
        written = bulk.log([row for run in runs for row in run.rows()])
        for run in runs:
            if run.run_id in written:
                run.sent()
        rest = [run for run in runs if run.waiting]
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(TrackedRun.send, rest))
    except store.TrackingError as error:
        print(
            f"MLflow does not answer ({first_line(error)}): {sum(run.waiting for run in runs)} epochs wait to be logged"
        )


def _now() -> int:
    """Return Unix milliseconds."""
    return int(time.time() * 1000)


def remove_models(run_id: str) -> None:
    """Delete a run's model files, and say so in its tag `model_files`; raises ArtifactError."""
    try:
        repository = store.artifact_store(run_id)
        for path, _ in _model_files(run_id):
            repository.delete_artifacts(path)  # type: ignore[no-untyped-call]
        store.client().set_tag(run_id, "model_files", "removed")
    except Exception as error:  # every kind of artifact store raises its own
        raise ArtifactError(f"the model of run {run_id} cannot be deleted ({first_line(error)})") from error


def model_size(run_id: str) -> int:
    """Return how many bytes a run's model files have; raises ArtifactError."""
    try:
        return sum(size for _, size in _model_files(run_id))
    except Exception as error:
        raise ArtifactError(f"the files of run {run_id} cannot be listed ({first_line(error)})") from error


def _model_files(run_id: str) -> list[tuple[str, int]]:
    """Return path and bytes of the model files of a run, one a model."""
    repository = store.artifact_store(run_id)
    top = repository.list_artifacts()
    inside = [file for entry in top if entry.is_dir for file in repository.list_artifacts(entry.path)]
    return [(file.path, int(file.file_size or 0)) for file in [*top, *inside] if Path(file.path).name == MODEL_FILE]
