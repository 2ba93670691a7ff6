"""One run in a real MLflow store: nothing twice, and an end state that is true."""

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.errors import ArtifactError, UserError
from pipelines.tracking import run as run_of
from pipelines.tracking import store
from pipelines.tracking.run import TrackedRun, remove_models, send_epochs
from pipelines.train import EpochMetrics

METRICS = EpochMetrics({"loss": 0.5, "accuracy": 0.9}, {"accuracy": 0.92, "loss": 0.4}, 0.001, 1.5)


@pytest.fixture
def experiment(made_stores: None) -> str:
    return store.open_experiment("study").experiment_id


def create(experiment: str) -> TrackedRun:
    parent = store.open_parent(store.open_experiment("study"), "uid", "sweep", {})
    run = TrackedRun.create(experiment, parent, "trial 0", {"phase": "sweep", "git_commit": "def", "study_uid": "uid"})
    run.log_inputs({"dropout": 0.4}, "mnist-5k", "abc")
    return run


def test_a_run_says_where_it_came_from(experiment: str) -> None:
    again = create(experiment)
    again.log_inputs({"dropout": 0.4}, "mnist-5k", "abc")  # as after a crash between creating and noting it
    run = store.get_run(again.run_id)
    assert run.params == {"dropout": "0.4"}
    assert run.tags["mlflow.source.git.commit"] == "def" and run.tags["mlflow.user"]
    (used,) = store.client().get_run(again.run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("mnist-5k", "abc")


def test_an_epoch_is_logged_once_by_whomever(experiment: str) -> None:
    run = create(experiment)
    run.log_epoch(0, [METRICS], {"system/memory": 1.0})
    send_epochs([run])
    again = TrackedRun(run.run_id)
    again.log_epoch(0, [METRICS], {"system/memory": 2.0})
    again.log_epoch(1, [METRICS], {"system/memory": 3.0})
    send_epochs([again])
    history = store.client().get_metric_history(run.run_id, "system/memory")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 3.0)]
    for name, value in METRICS.flat("epoch_val_").items():
        history = store.client().get_metric_history(run.run_id, name)
        assert [(metric.step, metric.value) for metric in history] == [(1, value), (2, value)]


def of_run(run_id: str) -> tuple[list[tuple], list[tuple]]:
    """Return what MLflow's tables of metrics hold of a run: all values, and the latest."""
    columns = "key, value, timestamp, step, is_nan"
    with sqlite3.connect(paths.mlruns() / store.FILE) as file:
        return tuple(  # type: ignore[return-value]
            sorted(file.execute(f"SELECT {columns} FROM {table} WHERE run_uuid = ?", (run_id,)))
            for table in ("metrics", "latest_metrics")
        )


def test_epochs_of_many_runs_are_written_as_mlflow_writes_them(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_of, "_now", lambda: 1_700_000_000_000)
    diverged = replace(METRICS, training={"loss": math.nan, "accuracy": 0.1}, validation={"loss": -math.inf})
    together, others = [create(experiment) for _ in range(3)], [create(experiment) for _ in range(3)]
    for epoch in range(3):
        for number, (one, other) in enumerate(zip(together, others, strict=True)):
            for run in (one, other):
                run.log_epoch(epoch, [diverged if number == epoch else METRICS] * (number + 1), {"own": float(number)})
            other.send()  # MLflow's own way
        if epoch:
            send_epochs(together)  # of the first two epochs, both at once
    assert [of_run(run.run_id) for run in together] == [of_run(run.run_id) for run in others]
    assert not any(run.waiting for run in together)


def test_a_run_in_the_trash_leaves_the_others_alone(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    gone, there = create(experiment), create(experiment)
    for run in (gone, there):
        run.log_epoch(0, [METRICS], {})
    store.client().delete_run(gone.run_id)
    send_epochs([gone, there])
    assert gone.waiting == 1 and not there.waiting and store.history(there.run_id, "epoch_seconds") == {1: 1.5}
    assert "MLflow does not answer" in capsys.readouterr().out
    with pytest.raises(store.TrackingError):
        gone.close("FINISHED")


def test_the_summary_is_logged_once(experiment: str) -> None:
    run = create(experiment)
    run.log_summary({"test_accuracy": 0.99})
    TrackedRun(run.run_id).log_summary({"test_accuracy": 0.99, "seconds": 3.0})
    assert len(store.client().get_metric_history(run.run_id, "test_accuracy")) == 1
    assert store.get_run(run.run_id).metrics == {"test_accuracy": 0.99, "seconds": 3.0}


def test_a_study_has_one_parent_run(experiment: str) -> None:
    parents = {store.open_parent(store.open_experiment("study"), "uid", "sweep", {}) for _ in range(3)}
    assert len(parents) == 1
    assert store.open_parent(store.open_experiment("study"), "another", "sweep", {}) not in parents
    child = create(experiment)
    assert store.get_run(child.run_id).tags["mlflow.parentRunId"] in parents
    assert [run.run_id for run in store.trial_runs(experiment)] == [child.run_id]
    store.open_parent(store.open_experiment("study"), "another", "sweep", {})  # the study was begun anew
    assert store.trial_runs(experiment) == []


def test_status_is_what_is_said(experiment: str) -> None:
    run = create(experiment)
    for status in ("SCHEDULED", "FAILED"):
        run.close(status)
        assert store.get_run(run.run_id).status == status
    run.reopen()
    assert store.get_run(run.run_id).status == "RUNNING"


def test_all_runs_follows_every_page(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        store.client().create_run(experiment)
    monkeypatch.setattr(store, "PAGE", 2)
    assert len(store.all_runs(experiment)) == 5


def test_artifacts_lie_in_mlruns(experiment: str, outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "note.txt").write_text("hello")
    run = create(experiment)
    run.log_artifacts(folder)
    logged = outputs / "artifacts" / "study" / run.run_id / "artifacts" / "note.txt"
    assert logged.read_text() == "hello"
    logged.write_text("he")  # half-written, and the writer killed
    run.log_artifacts(folder)
    assert logged.read_text() == "hello"


@pytest.mark.parametrize("uri", ["foo://bar", "sqlite:////proc/none/mlflow.db", "./mlruns"])
def test_an_unusable_store_is_named(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"MLflow's store cannot be opened .* check MLFLOW_TRACKING_URI"):
        store.open_experiment("study")


def test_a_deleted_experiment_is_named(experiment: str) -> None:
    store.client().delete_experiment(experiment)
    with pytest.raises(UserError, match="sweep doctor study --fix takes it out"):
        store.open_experiment("study")


def test_of_several_models_the_mean_is_logged_and_each_ones_validation_accuracy(experiment: str) -> None:
    run = create(experiment)
    other = EpochMetrics({"loss": 0.7, "accuracy": 0.7}, {"accuracy": 0.90, "loss": 0.6}, 0.001, 2.5)
    run.log_epoch(0, [METRICS, other], {})
    send_epochs([run])
    logged = store.get_run(run.run_id).metrics
    assert logged["epoch_val_accuracy"] == pytest.approx(0.91) and logged["loss"] == pytest.approx(0.6)
    assert (logged["epoch_val_accuracy_1"], logged["epoch_val_accuracy_2"]) == (0.92, 0.90)
    assert logged["epoch_seconds"] == 4.0  # one after the other


def test_a_run_under_the_names_of_before_stays_under_them(experiment: str) -> None:
    """One that a version before left half-trained: its curve has no gap, and what it came to is told from that."""
    run = create(experiment)
    for name, value in METRICS.flat().items():
        store.client().log_metric(run.run_id, name, value, step=1)
    resumed = TrackedRun(run.run_id)
    resumed.log_epoch(0, [METRICS], {})
    resumed.log_epoch(1, [METRICS], {})
    send_epochs([resumed])
    resumed.log_summary({"val_accuracy": 0.99, "test_accuracy": 0.98, "train_loss": 0.1})
    raw = store.client().get_run(run.run_id).data.metrics
    assert raw["final_validation_accuracy"] == 0.99 and raw["final_train_loss"] == 0.1 and raw["val_accuracy"] == 0.92
    assert not any(name.startswith("epoch_val") for name in raw)
    read = store.get_run(run.run_id).metrics
    assert (read["val_accuracy"], read["epoch_val_accuracy"], read["test_accuracy"]) == (0.99, 0.92, 0.98)
    assert store.history(run.run_id, "epoch_val_accuracy") == {1: 0.92, 2: 0.92}


def test_models_can_be_removed_and_nothing_else_is(experiment: str, tmp_path: Path) -> None:
    run = create(experiment)
    folder = tmp_path / "artifacts"
    for place in (folder, folder / "model_1", folder / "model_2"):
        place.mkdir()
        (place / "model.keras").write_text("weights")
        (place / "probabilities.npz").write_text("numbers")
    run.log_artifacts(folder)
    for _ in range(2):  # again, as after a crash
        remove_models(run.run_id)
        client = store.client()
        left = [f.path for f in client.list_artifacts(run.run_id)]
        left += [f.path for f in client.list_artifacts(run.run_id, "model_1")]
        assert sorted(left) == ["model_1", "model_1/probabilities.npz", "model_2", "probabilities.npz"]
    assert store.get_run(run.run_id).tags["model_files"] == "removed"
    with pytest.raises(ArtifactError, match="the model of run none cannot be deleted"):
        remove_models("none")
