"""Kind 7: a failed trial says why, three of a kind pause the study, and failed trials can be retried."""

from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState
from rich.console import Console

from pipelines import paths
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from sweeps import runs
from sweeps.results import leaderboard
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import doctor
from tests.conftest import Sweep, eventually
from tests.situations.conftest import NET, Project

FAULTY = NET.replace(
    "    import keras\n", "    if units > 4:\n        raise ValueError('too many units')\n    import keras\n", 1
)
FAILING = {"search": {"units": {"int": [2, 40]}}, "start": [{"units": 2}], "sampler": "random", "budget": {"trials": 8}}


@pytest.mark.slow
def test_three_failures_for_one_reason_pause_the_study_and_another_source_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write({"net.py": FAULTY})
    project.study(**FAILING)
    done = project.sweep("run", "s.yaml")
    assert done.returncode == 1, done.stderr
    line = next(line for line in done.stdout.splitlines() if "failed: ValueError: too many units" in line)
    assert "net.py:4)" in line and "its traceback is a file of its run" in line
    assert "paused: 3 trials in a row failed for one reason (ValueError at " in done.stdout
    monkeypatch.setenv("MLRUNS_DIR", str(project.folder / "mlruns"))
    failed = [trial.number for trial in Store("mine").trials() if trial.state == TrialState.FAIL]
    assert len(failed) == 3
    best = project.sweep("best", "mine")
    assert "failed: ValueError: too many units (" in best.stdout
    frame = runs("mine")
    assert frame[frame.state == "failed"].failure.str.contains("net.py:4").all()
    project.write({"net.py": NET})
    refused = project.sweep("run", "s.yaml")
    assert refused.returncode == 2 and "or with the present source (--new-source)" in refused.stderr
    retried = project.sweep("retry", "mine")
    assert retried.returncode == 0 and "3 trials wait again" in retried.stdout, retried.stderr
    done = project.sweep("run", "s.yaml", "--new-source")
    assert done.returncode == 0 and "8 of 8 trials done" in done.stdout and "0 failed" in done.stdout, done.stdout
    assert [trial.state for trial in Store("mine").trials()] == [TrialState.COMPLETE] * 8


@pytest.mark.slow
def test_with_a_new_source_a_trial_that_waits_begins_from_its_seed(
    project: Project, sweep: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLRUNS_DIR", str(project.folder / "mlruns"))
    project.write({"net.py": NET})
    project.study(training={"epochs": 20, "batch_size": 10})
    command = sweep("run", "s.yaml", cwd=project.folder)
    eventually(lambda: paths.checkpoint("mine", 0).exists())
    command.press_ctrl_c()
    assert command.wait()[0] == 130
    (before,) = Store("mine").trials()
    spent = Store("mine").epochs_spent()
    assert before.state == TrialState.WAITING and paths.checkpoint("mine", 0).exists() and spent >= 1
    project.write({"net.py": NET.replace("Dense(units)", "Dense(2 * units)")})  # the weights of old do not fit
    done = project.sweep("run", "s.yaml", "--new-source", MLRUNS_DIR=str(paths.mlruns()))
    assert done.returncode == 0, done.stdout + done.stderr
    (after,) = Store("mine").trials()
    assert after.state == TrialState.COMPLETE and after.params == before.params and len(after.intermediate_values) == 20
    assert Store("mine").epochs_spent() == spent + 20
    assert (
        tracking.lifecycle(before.user_attrs["run_id"]) == "deleted" != tracking.lifecycle(after.user_attrs["run_id"])
    )


def test_only_failures_in_a_row_and_for_one_reason_count(outputs: Path, made_stores: None) -> None:
    import optuna

    store = Store.create("study")
    for state, reason in [("FAIL", "a"), ("COMPLETE", ""), ("FAIL", "a"), ("FAIL", "b"), ("FAIL", "a"), ("FAIL", "a")]:
        value = 0.5 if state == "COMPLETE" else None
        store.study().add_trial(
            optuna.trial.create_trial(state=TrialState[state], value=value, user_attrs={"failure": reason})
        )
    assert [trial.number for trial in store.failed_in_a_row(set())] == [5, 4]
    assert [trial.number for trial in store.failed_in_a_row({5})] == [4]
    assert store.failed_in_a_row(range(6)) == []


def test_a_retried_trial_keeps_number_and_parameters_and_forgets_the_rest(study: Store) -> None:
    trial = study.trials()[1]
    with pytest.raises(UserError, match="no trial of 'tiny' has failed"):
        doctor.retry("tiny", ())
    import sqlalchemy
    from optuna.storages._rdb.models import TrialModel

    with study._rdb.engine.begin() as connection:
        table = sqlalchemy.update(TrialModel).where(TrialModel.trial_id == trial._trial_id)
        connection.execute(table.values(state=TrialState.FAIL))
    with pytest.raises(UserError, match="trial 0 has not failed: failed are 1"):
        doctor.retry("tiny", (0,))
    assert doctor.retry("tiny", ()) == [1]
    again = Store("tiny").trials()[1]
    assert (again.number, again.state, again.params) == (1, TrialState.WAITING, trial.params)
    assert again.intermediate_values == {} and "run_id" not in again.user_attrs
    assert tracking.lifecycle(trial.user_attrs["run_id"]) == "deleted"
    study.note_session("now", 0.0)
    with pytest.raises(UserError, match="was running 0 s ago: stop it"):
        doctor.retry("tiny", ())


def test_a_failure_s_reason_is_on_the_leaderboard(
    write_study: Callable[..., Path], tmp_path: Path, run_here: Callable[..., Store]
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    path = write_study(
        model=str(tmp_path / "faulty.py"),
        **(FAILING | {"budget": {"trials": 2}, "start": [{"units": 9}, {"units": 3}]}),
    )
    run_here(study_file.load(str(path)))
    console = Console(width=300, record=True)
    leaderboard.show("tiny", console)
    assert "trial 0 failed: ValueError: too many units (" in console.export_text()
