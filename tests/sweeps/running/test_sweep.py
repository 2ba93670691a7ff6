"""Whole sweeps with real workers, interrupted in every way of the table of events in docs/architecture.md."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState
from rich.console import Console

from deploy.loopback import MlflowServer
from pipelines import drawing
from pipelines.errors import StoreUnavailable, UserError
from pipelines.figures import of_run
from pipelines.tracking import store as tracking
from sweeps import api, best_runs, runs
from sweeps.results import frames, report
from sweeps.running import launch, logfile, supervisor, worker
from sweeps.running.executors import WorkerSlot
from sweeps.running.resources import ThisMachine
from sweeps.stores import storage
from sweeps.stores.store import Store
from sweeps.study import study_file
from tests.command_forkserver import DRAWS
from tests.conftest import Sweep, eventually
from tests.sweeps.looking import (
    check_consistent,
    epochs_begun,
    epochs_reported,
    experiment_runs,
    workers_of,
)

pytestmark = pytest.mark.usefixtures("made_stores")

Start = Callable[..., Sweep]
Write = Callable[..., Path]


def test_a_sweep_from_study_file_to_dataframe(
    sweep: Start, write_study: Write, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(outputs)  # from nothing
    monkeypatch.setenv(DRAWS, "1")
    path = write_study()
    code, out, err = sweep("run", path).wait()
    assert (code, err) == (0, "")
    assert "2 of 2 trials done" in out and "sweep best tiny (leaderboard)" in out and "the budget is used up" in out

    frame = check_consistent(trials=2)
    assert list(frame.columns[:5]) == ["study", "trial", "state", "val_accuracy", "test_accuracy"]
    assert frame.columns[-1] == "run_id"
    assert frame.val_accuracy.is_monotonic_decreasing
    assert {"filters1", "dropout", "learning_rate", "batch_size", "epochs", "seconds", "device", "dataset"} <= set(
        frame.columns
    )
    assert frame.filters1.dtype == "Int64" and frame.dropout.dtype == "float64" and frame.device.dtype == "category"
    assert frame.loc[0, ["filters1", "filters2", "dropout", "learning_rate"]].tolist() == [
        4,
        4,
        0.1,
        0.005,
    ]  # the start point
    pd.testing.assert_frame_equal(best_runs(), frame.reset_index(drop=True))

    run = tracking.get_run(frame.run_id[0])
    assert run.status == "FINISHED"
    measured = run.metrics
    for part in ("train", "val", "test"):
        assert 0 <= measured[f"{part}_accuracy"] <= 1 and measured[f"{part}_loss"] > 0
    for name in (
        "loss",
        "accuracy",
        "epoch_val_loss",
        "learning_rate",
        "epoch_seconds",
        "parameters",
        "samples_per_second",
    ):
        assert name in measured
    assert not [name for name in measured if name.startswith("gap_to")]  # mnist-5k is not comparable
    for tag in (
        "device",
        "device_name",
        "backend",
        "keras_version",
        "git_commit",
        "git_dirty",
        "dataset_digest",
        "study_digest",
        "trial",
    ):
        assert run.tags[tag]
    parents = experiment_runs("tags.phase = 'study'")
    assert [parent.run_id for parent in parents] == [run.tags["mlflow.parentRunId"]]
    assert parents[0].status == "FINISHED"
    assert {file.path for file in tracking.client().list_artifacts(parents[0].run_id)} == {
        "study.yaml",
        "study_curves.png",
        "images_by_class.png",
        "training_images.png",
        "test_images.png",
        "report.md",
        "report.html",
        "model.py",
    }
    artifacts = {file.path for file in tracking.client().list_artifacts(run.run_id)}
    of_results = {"confusion.png", "wrong_images.png", "accuracy_by_class.png", "font_digits.png"}
    assert artifacts == {"learning_curves.png", "config.json", "probabilities.npz", "model.keras"} | of_results
    assert measured["figure_seconds"] > 0 and "figures_failed" not in run.tags

    saved = tracking.artifact_folder(run.run_id, "probabilities.npz", outputs)
    probabilities = np.load(saved)
    assert probabilities["test"].shape == (500, 10) and probabilities["validation"].shape == (500, 10)
    from pipelines import datasets

    assert np.mean(probabilities["test"].argmax(1) == datasets.load("mnist-5k").test.y) == pytest.approx(
        measured["test_accuracy"]
    )

    code, out, err = sweep("best").wait()
    assert code == 0 and "tiny: 2 complete" in out and "not comparable" in out
    code, out, err = sweep("studies").wait()
    assert "tiny: 2 of 2 trials ended" in out

    code, out, err = sweep("run", path, "--trials", 3, "--workers", 2).wait()  # a raised budget goes on
    assert code == 0 and "3 of 3 trials done" in out
    assert check_consistent(trials=3).loc[frame.trial].run_id.tolist() == frame.run_id.tolist()

    code, out, err = sweep("run", write_study(search={"filters1": {"int": [2, 5]}}, start=[])).wait()
    assert code == 2 and "has trials under another definition" in err and "give the changed study another name" in err
    assert err.count("\n") == 1
    check_consistent(trials=3)


@pytest.mark.slow
def test_ctrl_c_returns_the_trial_and_the_same_command_goes_on(sweep: Start, write_study: Write) -> None:
    path = write_study(training={"epochs": 8})
    command = sweep("run", path)
    eventually(lambda: epochs_reported() >= 2)
    command.press_ctrl_c()
    code, out, err = command.wait(60)
    assert code == 130 and "the same command resumes it" in out and err == ""
    (trial, _) = Store("tiny").trials()
    assert trial.state == TrialState.WAITING and "faults" not in trial.user_attrs
    before = len(trial.intermediate_values)
    assert [run.status for run in experiment_runs("tags.phase = 'sweep'")] == ["SCHEDULED"]
    assert runs("tiny").state.tolist() == ["waiting"]

    code, *_ = sweep("run", path).wait()
    assert code == 0 and before >= 2
    check_consistent(trials=2, epochs=8)
    assert Store("tiny").epochs_spent() == 16  # none was trained twice


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(sweep: Start, write_study: Write) -> None:
    path = write_study(training={"epochs": 9, "batch_size": 1}, budget={"trials": 1})  # an epoch of many seconds
    command = sweep("run", path)
    eventually(lambda: epochs_begun() >= 1)
    command.press_ctrl_c()
    assert "stopping after the running epochs" in "".join(line for line in command.lines_until("stopping"))
    command.press_ctrl_c()
    code, out, _ = command.wait(60)
    assert code == 130, out
    (trial,) = Store("tiny").trials()
    assert trial.state == TrialState.WAITING and not trial.user_attrs.get("faults")
    assert (epochs_begun(), epochs_reported()) == (1, 0)  # it did not wait for the epoch to end
    assert not experiment_runs("attributes.status = 'RUNNING'")


@pytest.mark.slow
def test_killed_workers_lose_at_most_an_epoch_and_two_workers_keep_the_budget(sweep: Start, write_study: Write) -> None:
    path = write_study(training={"epochs": 6}, budget={"trials": 5})
    command = sweep("run", path, "--workers", 2)
    for reports in (3, 10):
        eventually(lambda reports=reports: epochs_reported() >= reports)
        workers_of(command)[0].kill()
    code, out, err = command.wait()
    assert (code, err) == (0, "")
    assert out.count("a worker was killed by SIGKILL") == 2
    check_consistent(trials=5, epochs=6)
    assert 30 <= Store("tiny").epochs_spent() <= 32  # at most the epoch that was under way, each time


@pytest.mark.slow
def test_a_killed_parent_takes_its_workers_along_and_the_same_command_goes_on(sweep: Start, write_study: Write) -> None:
    path = write_study(training={"epochs": 6}, budget={"trials": 3})
    command = sweep("run", path, "--workers", 2)
    eventually(lambda: epochs_reported() >= 3)
    workers = workers_of(command)
    command.process.kill()
    assert len(workers) == 2
    eventually(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers), timeout=20)
    assert sweep("run", path, "--workers", 2).wait()[0] == 0
    check_consistent(trials=3, epochs=6)
    assert all(not trial.user_attrs.get("faults") for trial in Store("tiny").trials())  # no retry was used up
    assert 18 <= Store("tiny").epochs_spent() <= 20


@pytest.mark.slow
def test_a_trial_of_several_seeds_goes_on_where_each_model_was(
    sweep: Start, write_study: Write, run_here: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_study(training={"epochs": 4, "batch_size": 200}, repeats=2, budget={"trials": 1})
    command = sweep("run", path)
    eventually(lambda: epochs_begun() >= 5)
    workers_of(command)[0].kill()
    assert command.wait()[0] == 0
    frame = check_consistent(trials=1, epochs=8)
    assert Store("tiny").epochs_spent() in (8, 9)
    broken = Store("tiny").trials()[0]
    assert len(broken.user_attrs["faults"]) == 1 and not list(tmp_path.rglob("*.npz.tmp"))
    monkeypatch.setenv("MLRUNS_DIR", str(tmp_path / "whole"))
    (whole,) = run_here(study_file.load(str(path))).trials()
    assert broken.intermediate_values == pytest.approx(whole.intermediate_values)
    assert frame.val_accuracy[0] == pytest.approx(whole.value)


@pytest.mark.slow
def test_a_trial_with_every_kind_of_setting_goes_on_where_it_was(
    sweep: Start, write_study: Write, run_here: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own_loss.py").write_text(
        "import keras\n\n\ndef soft(labels, probabilities, power=1.0):\n"
        "    return keras.losses.categorical_crossentropy(labels, probabilities) ** power\n"
    )
    monkeypatch.chdir(tmp_path)
    training = {
        "optimizer": {"name": "lion", "clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.9},
        "schedule": {"name": "cosine", "warmup": 1.0, "horizon": 5},
        "loss": "own_loss.py:soft",
        **{"mixup": 0.2, "class_weight": "balanced", "flip": "horizontal", "crop": 1},
        **{"epochs": 5, "batch_size": 200},
    }
    start = [{"learning_rate": 0.002, "loss.power": 0.9, "optimizer.beta_1": 0.8}]
    search = {
        "learning_rate": {"float": [1e-3, 1e-2]},
        "loss.power": {"float": [0.5, 1.0]},
        "optimizer.beta_1": {"float": [0.8, 0.9]},
    }
    path = write_study(training=training, search=search, start=start, budget={"trials": 1})
    command = sweep("run", path, cwd=tmp_path)
    eventually(lambda: epochs_reported() >= 2)
    workers_of(command)[0].kill()
    code, out, err = command.wait()
    assert (code, err) == (0, "") and "killed by SIGKILL" in out
    check_consistent(trials=1, epochs=5)
    (broken,) = Store("tiny").trials()
    assert len(broken.user_attrs["faults"]) == 1
    curves = [tracking.history(broken.user_attrs["run_id"], name) for name in ("loss", "val_loss", "learning_rate")]
    monkeypatch.setenv("MLRUNS_DIR", str(tmp_path / "whole"))
    (whole,) = run_here(study_file.load(str(path))).trials()
    assert broken.intermediate_values == pytest.approx(whole.intermediate_values)
    for name, curve in zip(("loss", "val_loss", "learning_rate"), curves, strict=True):
        assert curve == pytest.approx(tracking.history(whole.user_attrs["run_id"], name))


@pytest.mark.slow
def test_parent_and_worker_killed_together(sweep: Start, write_study: Write) -> None:
    path = write_study(training={"epochs": 10}, budget={"trials": 1})
    command = sweep("run", path)
    eventually(lambda: epochs_reported() >= 2)
    os.killpg(command.process.pid, signal.SIGHUP)  # the terminal is closed: both die, as when the machine restarts
    command.wait()
    assert Store("tiny").trials()[0].state == TrialState.RUNNING
    assert sweep("run", path).wait()[0] == 0
    check_consistent(trials=1, epochs=10)
    assert 10 <= Store("tiny").epochs_spent() <= 11


@pytest.mark.slow
def test_two_parents_share_a_study(sweep: Start, write_study: Write) -> None:
    path = write_study(budget={"trials": 4})
    commands = [sweep("run", path), sweep("run", path)]
    assert [command.wait()[0] for command in commands] == [0, 0]
    check_consistent(trials=4)
    assert Store("tiny").epochs_spent() == 8
    assert len(experiment_runs("tags.phase = 'study'")) == 1


@pytest.mark.slow
def test_the_budget_of_epochs_is_exact_and_cuts_trials(sweep: Start, write_study: Write) -> None:
    path = write_study(training={"epochs": 4}, budget={"trials": 4, "epochs": 7})
    code, out, _ = sweep("run", path, "--workers", 2).wait()
    assert code == 0 and "the budget is used up" in out
    assert Store("tiny").epochs_spent() == 7 == epochs_reported()
    states = [trial.state for trial in Store("tiny").trials()]
    assert TrialState.PRUNED in states and TrialState.WAITING in states
    assert {trial.user_attrs.get("ended") for trial in Store("tiny").trials() if trial.state == TrialState.PRUNED} == {
        "budget"
    }
    assert not experiment_runs("attributes.status = 'RUNNING'")
    assert sweep("run", path, "--epochs", 99).wait()[0] == 0  # raised: the waiting tickets are trained
    check_consistent(trials=4, epochs=4)


@pytest.mark.slow
def test_the_budget_of_hours_holds_over_resumptions(sweep: Start, write_study: Write) -> None:
    path = write_study(training={"epochs": 500}, budget={"hours": 20 / 3600})
    assert sweep("run", path).wait()[0] == 1  # no trial was complete by then
    assert 19 <= Store("tiny").seconds_spent() <= 40  # it ends after the epoch under way
    epochs = Store("tiny").epochs_spent()
    assert sweep("run", path).wait()[0] == 1  # nothing is left
    assert Store("tiny").epochs_spent() == epochs


@pytest.mark.slow
def test_a_trial_that_raises_fails_alone_with_its_traceback(run_here: Callable[..., Store], write_study: Write) -> None:
    search = {"dropout": {"choice": [0.1, 1.5]}}  # Keras refuses 1.5
    path = write_study(search=search, start=[{"dropout": 1.5}, {"dropout": 0.1}])
    run_here(study_file.load(str(path)))
    frame = check_consistent(trials=2)
    assert frame.state.to_dict() == {1: "complete", 0: "failed"}
    traceback = tracking.artifact_folder(frame.run_id[0], "traceback.txt", tracking.paths.mlruns()).read_text()
    assert "ValueError" in traceback and "1.5" in traceback
    assert "ValueError" in Store("tiny").trials()[0].user_attrs["ended"]


@pytest.mark.slow
def test_figures_that_fail_cost_a_trial_nothing(
    run_here: Callable[..., Store], write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_run.result, "confusion", lambda *_: 1 / 0)
    monkeypatch.setattr(of_run.fonts, "digits", lambda: 1 / 0)
    (trial,) = run_here(study_file.load(str(write_study(budget={"trials": 1}))), draws=True).trials()
    assert trial.state == TrialState.COMPLETE
    run = tracking.get_run(trial.user_attrs["run_id"])
    assert run.tags["figures_failed"] == (
        "font_digits.png: ZeroDivisionError: division by zero; confusion.png: ZeroDivisionError: division by zero"
    )
    drawn = {name for name in tracking.artifacts(run.run_id) if name.endswith(".png")}
    assert drawn == {"learning_curves.png", "wrong_images.png", "accuracy_by_class.png"}


@pytest.mark.slow
def test_the_data_set_is_drawn_once_for_a_search_and_not_for_its_seeds(
    run_here: Callable[..., Store], write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    whole = supervisor.of_dataset.by_class
    monkeypatch.setattr(supervisor.of_dataset, "by_class", lambda data: (drawn.append(data.name), whole(data))[1])
    for trials in (1, 2):
        run_here(
            study_file.load(str(write_study(budget={"trials": trials}, training={"epochs": 1, "batch_size": 500}))),
            draws=True,
        )
    alone = write_study(
        name="alone", search={}, start=[], budget={"trials": 1}, training={"epochs": 1, "batch_size": 500}
    )
    run_here(study_file.load(str(alone)), draws=True)
    assert drawn == ["mnist-5k"]


@pytest.mark.parametrize("error", [StoreUnavailable("MLflow is away"), UserError("no trial has ended")])
def test_a_report_that_cannot_be_written_is_said_and_ends_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise error

    monkeypatch.setattr(report, "log", fails)
    console = Console(record=True, width=200)
    assert api._log_report("tiny", console) is None
    assert console.export_text() == f"no report yet ({error}): sweep report tiny writes it\n"


@pytest.mark.slow
def test_a_diverged_trial_counts_as_pruned(run_here: Callable[..., Store], write_study: Write) -> None:
    search = {"learning_rate": {"choice": [1e30, 0.01]}}
    path = write_study(
        training={"epochs": 2, "optimizer": "sgd"},
        search=search,
        start=[{"learning_rate": 1e30}, {"learning_rate": 0.01}],
    )
    run_here(study_file.load(str(path)))
    frame = check_consistent(trials=2)
    assert frame.state.to_dict() == {1: "complete", 0: "diverged"}
    assert tracking.get_run(frame.run_id[0]).status == "KILLED"
    assert Store("tiny").epochs_spent() == 3


def hang(*_: Any) -> None:
    """Training that never ends an epoch."""
    time.sleep(600)


def die(*_: Any) -> None:
    """Training that the kernel kills, for want of memory say."""
    os.kill(os.getpid(), signal.SIGKILL)


def exhaust(*_: Any) -> None:
    """Training that asks for more memory than there is."""
    np.ones(2**50)


def leave(*_: Any) -> None:
    """Training that calls exit, with a code that argparse would use."""
    sys.exit(2)


def leave_quietly(*_: Any) -> None:
    """Training that ends its process as if all were well."""
    os._exit(0)


def be_refused(*_: Any) -> None:
    """A tracking store that answers, and says no."""
    tracking.client().set_tag("0" * 32, "key", "value")


WAYS = {each.__name__: each for each in (hang, die, exhaust, leave, leave_quietly, be_refused)}


def misbehave(*arguments: Any) -> None:
    """A worker whose training goes wrong in another way each time, in the order of the file `ways`."""
    ways = tracking.paths.mlruns() / "ways"
    first, *rest = ways.read_text().split()
    ways.write_text(" ".join(rest))
    worker.execute = WAYS[first]
    worker.work(*arguments)


def die_early(_assignment: Any, _stop: Any, slot: WorkerSlot) -> None:
    """A worker that never gets as far as a trial."""
    logfile.print_to(slot.log)
    print("no such device [/job:localhost/device:GPU:0]")
    sys.exit(1)


def die_after_telling(*arguments: Any) -> None:
    """A worker killed between telling Optuna and closing the run."""
    worker._close = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    worker.work(*arguments)


def launch_with(work: Callable[..., None], path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(launch, "work", work)
    return launch.run(study_file.load(str(path)), ThisMachine(device="cpu"), Console(quiet=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "ways",
    [
        {
            "hang": "no epoch ended within 6 s",
            "die": "its worker was killed by SIGKILL",
            "exhaust": "its worker ran out of memory",
        },
        {
            "leave": "its worker ended with exit code 1",
            "leave_quietly": "its worker ended with exit code 0",
            "be_refused": "its worker ended with exit code 1",
        },
    ],
    ids=[0, 1],
)
def test_a_trial_that_loses_its_worker_again_and_again_is_failed_after_two_retries(
    write_study: Write, outputs: Path, monkeypatch: pytest.MonkeyPatch, ways: dict[str, str]
) -> None:
    (outputs / "ways").write_text(" ".join(ways))
    result = launch_with(misbehave, write_study(budget={"trials": 1}, trial_timeout=6.0), monkeypatch)
    assert result.snapshot.count(TrialState.FAIL) == 1
    assert Store("tiny").trials()[0].user_attrs["faults"] == list(ways.values())
    assert check_consistent(trials=1).state.tolist() == ["failed"]


@pytest.mark.slow
def test_a_worker_that_has_grown_makes_room_for_a_fresh_one(
    write_study: Write, run_here: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(worker, "GROWTH", -1.0)  # GiB
    trials = run_here(study_file.load(str(write_study()))).trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.WAITING]
    assert "making room for a fresh worker" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_that_die_before_they_have_a_trial_end_the_sweep(
    write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="3 workers in a row ended before they had a trial") as said:
        launch_with(die_early, write_study(), monkeypatch)
    assert "no such device [/job:localhost/device:GPU:0]" in Path(str(said.value).split(": see ")[1]).read_text()
    assert {trial.state for trial in Store("tiny").trials()} == {TrialState.WAITING}


@pytest.mark.slow
def test_a_worker_killed_between_telling_and_closing_leaves_a_true_run(
    write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch_with(die_after_telling, write_study(budget={"trials": 1}), monkeypatch)
    frame = check_consistent(trials=1)
    assert frame.state.tolist() == ["complete"]
    assert {"learning_curves.png", "confusion.png"} <= tracking.artifacts(frame.run_id[0])  # its figures, all the same
    assert drawing.TAG not in tracking.get_run(frame.run_id[0]).tags


def work_impatiently(*arguments: Any) -> None:
    """A worker that waits 2 s for a locked Optuna database; MLflow's own patience is 20 s."""
    storage.SQLITE_PATIENCE = 2
    worker.work(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("database", "seconds"), [("mlflow.db", 25), ("optuna.db", 8)])
def test_a_locked_database_is_waited_for(
    write_study: Write, outputs: Path, monkeypatch: pytest.MonkeyPatch, database: str, seconds: float
) -> None:
    monkeypatch.setattr(storage, "SQLITE_PATIENCE", 2)

    def lock() -> None:
        eventually(lambda: epochs_reported() >= 2)
        with contextlib.closing(sqlite3.connect(outputs / database, isolation_level=None, timeout=60)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    locker = threading.Thread(target=lock)
    locker.start()
    result = launch_with(work_impatiently, write_study(training={"epochs": 12}, budget={"trials": 1}), monkeypatch)
    locker.join()
    assert result.snapshot.count(TrialState.COMPLETE) == 1
    check_consistent(trials=1, epochs=12)
    assert not Store("tiny").trials()[0].user_attrs.get("faults")
    assert Store("tiny").epochs_spent() in (12, 13)  # at most the one under way was lost
    workers = list((outputs / "logs").rglob("worker-*.log"))
    if database == "mlflow.db":  # the epochs waited, and the training went on
        assert len(workers) == 1 and "epochs wait to be logged" in workers[0].read_text()
        assert Store("tiny").epochs_spent() == 12
    else:
        assert len(workers) >= 2  # a worker did give up on the store


@pytest.mark.slow
def test_an_mlflow_server_may_go_and_come_back_while_the_training_goes_on(
    sweep: Start, write_study: Write, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MlflowServer(outputs.parent, f"sqlite:///{outputs / 'mlflow.db'}", outputs) as server:
        with_password = server.url.replace("//", "//me:s3cret@")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", with_password)
        command = sweep("run", write_study(training={"epochs": 15}, budget={"trials": 1}))
        eventually(lambda: epochs_reported() >= 2)
        server.kill()
        before = epochs_reported()
        eventually(lambda: epochs_reported() >= before + 3)
        server.start()
        code, out, err = command.wait()
        assert (code, err) == (0, "")
        check_consistent(trials=1, epochs=15)
    (log,) = (outputs / "logs").rglob("worker-*.log")
    assert "epochs wait to be logged" in log.read_text()
    assert Store("tiny").epochs_spent() == 15
    everything = [path for path in outputs.rglob("*") if path.is_file()]
    assert "s3cret" not in out and not [path for path in everything if b"s3cret" in path.read_bytes()]


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of a few megabytes at `folder`; the test is skipped where none can be made."""
    before = [*folder.iterdir()]
    kept = [shutil.copy(path, folder.parent) for path in before]
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "small", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs a small file system, which root alone can make ({made.stderr.strip()})")
    try:
        for path in kept:
            shutil.move(path, folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_waited_for(sweep: Start, write_study: Write, outputs: Path) -> None:
    with small_disk(outputs):
        command = sweep("run", write_study(training={"epochs": 12}, budget={"trials": 2}))
        eventually(lambda: epochs_reported() >= 2)
        with contextlib.suppress(OSError), (outputs / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        assert "tries again until it can resume" in "".join(command.lines_until("tries again"))
        time.sleep(15)
        (outputs / "filler").unlink()
        code, _, err = command.wait()
        assert (code, err) == (0, "")
        check_consistent(trials=2, epochs=12)
        assert not any(trial.user_attrs.get("faults") for trial in Store("tiny").trials())
        assert not list(outputs.rglob("*.tmp"))
        assert Store("tiny").epochs_spent() <= 25  # however long the disk was full


@pytest.mark.slow
def test_a_study_begun_anew_does_not_mix_with_the_old_ones_runs(
    run_here: Callable[..., Store], write_study: Write, outputs: Path
) -> None:
    run_here(study_file.load(str(write_study(budget={"trials": 1}))))
    old = runs("tiny")
    (outputs / "optuna.db").unlink()
    run_here(study_file.load(str(write_study(budget={"trials": 1}, seed=1))))
    new = check_consistent(trials=1)
    assert new.seed.tolist() != old.seed.tolist() and new.run_id.tolist() != old.run_id.tolist()
    assert len(experiment_runs("tags.phase = 'sweep'")) == 2  # nothing was deleted


@pytest.mark.slow
def test_pruned_trials_are_killed_runs_with_their_test_accuracy(
    run_here: Callable[..., Store], write_study: Write
) -> None:
    path = write_study(
        training={"epochs": 9},
        search={"learning_rate": {"choice": [0.005, 1e-7]}},
        start=[{"learning_rate": 0.005}] * 2 + [{"learning_rate": 1e-7}] * 3,
        pruner="hyperband",
        budget={"trials": 5},
    )
    run_here(study_file.load(str(path)))
    frame = check_consistent(trials=5, epochs=9)
    pruned = frame[frame.state == "pruned"]
    assert set(pruned.epochs) <= {1, 3}  # hyperband's rungs, counted in epochs
    assert len(pruned) and (pruned.learning_rate == 1e-7).all() and pruned.test_accuracy.notna().all()
    assert {tracking.get_run(run_id).status for run_id in pruned.run_id} == {"KILLED"}
    assert frame.state.iloc[0] == "complete" and set(best_runs().state) == {"complete"}


@pytest.mark.long
def test_the_jax_backend_sweeps_too(sweep: Start, write_study: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert sweep("run", write_study(budget={"trials": 1})).wait()[0] == 0
    frame = check_consistent(trials=1)
    assert tracking.get_run(frame.run_id[0]).tags["backend"] == "jax"


@pytest.mark.slow
def test_workers_that_never_begin_end_the_sweep(
    sweep: Start, write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # there may be a GPU, and yet none for TensorFlow
    code, _, err = sweep("run", write_study(), "--device", "gpu").wait()
    assert code == 2 and "--device gpu, but tensorflow sees no GPU here" in err and err.count("\n") == 1
    assert Store("tiny").epochs_spent() == 0
    assert {trial.state for trial in Store("tiny").trials()} == {TrialState.WAITING}


def test_studies_are_never_mixed() -> None:
    for study, accuracy in (("first", 0.9), ("second", 0.8)):
        experiment = tracking.open_experiment(study)
        tracking.client().set_experiment_tag(
            experiment.experiment_id, "sweeps.last_used", "1" if study == "first" else "2"
        )
        tags = {"phase": "sweep", "study": study, "trial": "0", "dataset": "mnist-5k"}
        run_id = tracking.client().create_run(experiment.experiment_id, tags=tags).info.run_id
        tracking.client().log_metric(run_id, "final_validation_accuracy", accuracy)
        tracking.client().set_terminated(run_id, "FINISHED")
    assert frames.studies().study.tolist() == ["second", "first"]
    assert runs().val_accuracy.tolist() == [0.8]
    assert best_runs("first").val_accuracy.tolist() == [0.9]
