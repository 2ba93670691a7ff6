"""The doctor finds what is wrong between the stores and on disk, mends it, and then finds nothing."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from pipelines import paths
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from pipelines.tracking.run import TrackedRun
from sweeps.cli import main
from sweeps.results import frames
from sweeps.running import repair
from sweeps.stores.lease import Lease, Process
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import doctor
from tests.conftest import TINY, run_in_process

STUDY = TINY | {
    "model": "tests.tiny_model",
    "training": {"epochs": 2, "batch_size": 500},
    "search": {"units": {"int": [4, 8]}},
    "start": [],
}


@pytest.fixture(scope="module")
def done(watch: Any, empty_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a study of two trials that ended well."""
    folder = tmp_path_factory.mktemp("done") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRUNS_DIR", str(folder))
        run_in_process(study_file.check(STUDY, "tiny"), watch, empty_stores)
    return folder


@pytest.fixture(autouse=True)
def copied(done: Path, outputs: Path) -> Path:
    """A copy of them, to be broken."""
    shutil.copytree(done, outputs)
    return outputs


def experiment() -> Any:
    found = tracking.find_experiment("tiny")
    assert found is not None
    return found


def run_of(trial: int) -> Any:
    uid = Store("tiny").attributes()["uid"]
    (found,) = [r for r in tracking.study_runs(experiment().experiment_id, uid) if r.tags["trial"] == str(trial)]
    return found


def leave_run_open(_: Path) -> None:
    tracking.client().update_run(run_of(0).run_id, status="RUNNING")


def close_run_wrongly(_: Path) -> None:
    tracking.client().set_terminated(run_of(1).run_id, "FAILED")


def trash_a_run(_: Path) -> None:
    tracking.discard_run(run_of(1).run_id)


def lose_mlflow(outputs: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRUNS_DIR", str(outputs / "elsewhere"))
        (outputs / "elsewhere").mkdir()
        tracking.client()
    shutil.copy(outputs / "elsewhere" / "mlflow.db", outputs)
    shutil.rmtree(outputs / "elsewhere")
    shutil.rmtree(outputs / "artifacts")


def write_a_second_run(_: Path) -> None:
    run = run_of(0)
    tracking.client().create_run(experiment().experiment_id, tags=run.tags)


def write_a_run_of_no_trial(_: Path) -> None:
    tracking.client().create_run(experiment().experiment_id, tags=run_of(0).tags | {"trial": "7"})


def leave_a_trial_running(_: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    lease = Lease("gone", Process.of(ended.pid), Process.of(ended.pid))
    ended.wait()
    store = Store("tiny")
    store.queue(3)
    assert store.claim(3, lease) is not None


def let_values_drift(_: Path) -> None:
    TrackedRun(run_of(0).run_id).log_metric("val_accuracy", 0.123, 0)


def let_curves_drift(_: Path) -> None:
    time.sleep(0.002)  # of two values of a step the later counts
    TrackedRun(run_of(1).run_id).log_metric("epoch_val_accuracy", 0.123, 2)


def leave_checkpoints(_: Path) -> None:
    for path in (paths.checkpoint("tiny", 0), paths.checkpoint("tiny", 9), paths.checkpoint("gone", 0)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"state")
        leave_alone(path.parent)


def leave_artifacts(outputs: Path) -> None:
    folder = outputs / "artifacts" / "tiny" / ("f" * 32)
    folder.mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"weights")
    leave_alone(folder)


def leave_alone(folder: Path) -> None:
    """Make it look as if nothing had been written there for an hour."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - 3600,) * 2)


def leave_parent_open(_: Path) -> None:
    (parent,) = tracking.parent_runs(experiment().experiment_id, Store("tiny").attributes()["uid"])
    tracking.client().update_run(parent.run_id, status="RUNNING")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (leave_run_open, ["trial 0 is COMPLETE, and its run RUNNING"]),
        (close_run_wrongly, ["trial 1 is COMPLETE, and its run FAILED"]),
        (trash_a_run, ["the run of trial 1 is in MLflow's trash"]),
        (lose_mlflow, ["it has no experiment in MLflow", "trial 0 has no run", "trial 1 has no run"]),
        (write_a_second_run, ["is a second one of trial 0"]),
        (write_a_run_of_no_trial, ["is of no trial: 7 is not there"]),
        (leave_a_trial_running, ["trial 2 is running, and its worker is gone"]),
        (let_values_drift, ["its run has val_accuracy 0.123"]),
        (let_curves_drift, ["after 2 epochs, its run 0.123"]),
        (
            leave_checkpoints,
            ["checkpoint 0.npz is of no", "checkpoint 9.npz is of no", "checkpoints/gone is of no study"],
        ),
        (leave_artifacts, ["is of no run"]),
        (leave_parent_open, ["its parent run is RUNNING, and nothing runs"]),
    ],
)
def test_what_is_broken_is_found_mended_and_then_gone(
    copied: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    whole = frames.runs("tiny")
    assert list(doctor.examine()) == []
    damage(copied)
    found = [problem.what for problem in doctor.examine()]
    assert found and all(any(word in what for word in words) for what in found), found
    mended = [problem.what for problem in doctor.fix()]
    for word in words:
        assert any(word in what for what in mended), (word, mended)
    assert list(doctor.examine()) == []
    frame = frames.runs("tiny")
    for column in ("trial", "state", "val_accuracy", "units", "seed"):
        assert list(frame[column]) == list(whole[column]), column
    for number in (0, 1):
        curve = Store("tiny").trials()[number].intermediate_values
        assert tracking.history(run_of(number).run_id, "epoch_val_accuracy") == curve
    assert {trial.state for trial in Store("tiny").trials()} <= {TrialState.COMPLETE, TrialState.WAITING}


def test_nothing_is_thrown_away(copied: Path) -> None:
    leave_artifacts(copied)
    write_a_second_run(copied)
    (second,) = [r for r in tracking.all_runs(experiment().experiment_id) if r.status == "RUNNING"]
    list(doctor.fix())
    assert (copied / "orphans" / "artifacts" / "tiny" / ("f" * 32) / "model.keras").read_bytes() == b"weights"
    assert tracking.lifecycle(second.run_id) == "deleted"  # can be taken out of the trash


def test_what_has_just_been_written_is_left_alone(copied: Path) -> None:
    """Somebody may have begun a study, or a trial, after the stores were read."""
    leave_artifacts(copied)
    leave_checkpoints(copied)
    for path in [*(copied / "artifacts").rglob("*"), *(copied / "checkpoints").rglob("*")]:
        os.utime(path)
    assert [problem.what for problem in doctor.examine()] == ["tiny: checkpoint 0.npz is of no unfinished trial"]


def test_checkpoints_of_a_study_in_another_storage_are_kept(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_checkpoints(copied)
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{copied / 'another.db'}")
    list(doctor.fix())
    assert (copied / "checkpoints" / "tiny" / "9.npz").read_bytes() == b"state"  # the other may know them


def test_a_folder_that_is_no_runs_is_no_riddle(copied: Path) -> None:
    odd = copied / "artifacts" / "tiny" / ".ipynb_checkpoints"
    odd.mkdir(parents=True)
    leave_alone(odd)
    assert not list(doctor.fix()) and odd.exists()


def test_two_that_mend_at_once_do_no_harm(copied: Path) -> None:
    leave_checkpoints(copied)
    trials = {trial.number: trial for trial in Store("tiny").trials()}
    first, second = (list(repair.left_checkpoints("tiny", trials)) for _ in range(2))
    for problem in [*first, *second]:
        problem.fix()
    assert len(first) == len(second) == 2 and not list(repair.left_checkpoints("tiny", trials))


def test_a_study_that_runs_is_left_alone(copied: Path) -> None:
    store = Store("tiny")
    store.note_session("now", time.time() - 5)
    with pytest.raises(UserError, match=r"study 'tiny' was running \d+ s ago: let it end"):
        list(doctor.examine("tiny"))
    leave_run_open(copied)
    assert list(doctor.examine()) == [] and repair.running() == ["tiny"]


def test_the_command_says_what_it_found_and_did(copied: Path) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["doctor", *arguments])
        return done.exit_code, done.output

    code, out = call()
    assert (
        code == 0 and out.startswith("looked at 1 studies with 2 trials in ") and out.endswith("\nnothing is wrong\n")
    )
    leave_run_open(copied)
    code, out = call("tiny")
    assert code == 1 and "tiny: trial 0 is COMPLETE, and its run RUNNING: set the run to FINISHED" in out
    code, out = call("--fix")
    assert code == 0 and "RUNNING: done: set the run to FINISHED" in out
    code, out = call("--fix")
    assert code == 0 and out.endswith("\nnothing is wrong\n")
    code, out = call("unknown")
    assert code == 2 and "there is no study 'unknown' yet" in out


@pytest.mark.parametrize("name", ["..", "a/b", "../../elsewhere", "/etc", ""])
def test_no_name_of_a_study_leads_out_of_the_folder_of_checkpoints(name: str) -> None:
    with pytest.raises(UserError, match="has a name that no folder can have"):
        list(repair.left_checkpoints(name, {}))
