"""Deleting: nothing of a study is left in either store or on disk but what a registered model needs; its name is free."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from deploy.loopback import MlflowServer, Postgres
from pipelines import paths
from pipelines.errors import UserError
from pipelines.tracking import deleting
from pipelines.tracking import store as tracking
from sweeps import api, runs
from sweeps.results import frames, report, systems
from sweeps.running import repair
from sweeps.stores import names, storage
from sweeps.stores.seen import SeenStudy
from sweeps.stores.store import Store, deleted
from sweeps.study import study_file
from sweeps.tasks import delete, doctor, status
from tests.conftest import TINY
from tests.sweeps.conftest import QUICK
from tests.sweeps.test_cli import call


def again(run_here: Callable[..., Store]) -> None:
    """Run the study of that name anew."""
    run_here(study_file.check(TINY | QUICK | {"budget": {"trials": 1}}, "test"))
    assert runs("tiny").state.tolist() == ["complete"] and not list(doctor.examine())


def register(run_id: str) -> None:
    tracking.client().create_registered_model("mine")
    tracking.client().create_model_version("mine", f"{tracking.client().get_run(run_id).info.artifact_uri}/x", run_id)


@pytest.mark.slow
def test_a_study_goes_with_all_that_belongs_to_it_and_runs_again(
    seeded: Store, outputs: Path, run_here: Callable[..., Store]
) -> None:
    kept = str(systems.confirmations("tiny").run_id.iloc[0])
    register(kept)
    (outputs / "logs" / "tiny" / "20260101-000000").mkdir(parents=True)
    report.write("tiny", Console(quiet=True))
    code, out = call("delete", "tiny")
    assert code == 2 and "study tiny, and tiny-confirm-" in out and "answer y, or give --yes\n" in out
    assert len(storage.study_names()) == 3
    code, out = call("delete", "tiny", "--yes")
    assert code == 0 and f"run {kept} stays: it is version 1 of mine, a registered model\n" in out
    assert not list((outputs / "reports").iterdir())
    assert out.endswith("study tiny is deleted; its name is free\n")
    assert storage.study_names() == [] and frames.studies().empty
    assert [path.name for path in (outputs / "artifacts" / "tiny").iterdir()] == [kept]
    assert tracking.lifecycle(kept) == "active" and tracking.artifacts(kept)
    assert not (outputs / "logs" / "tiny").exists() and not (outputs / "checkpoints" / "tiny").exists()
    assert call("delete", "tiny", "--yes")[1].startswith("error: there is no study 'tiny' yet")
    again(run_here)
    assert call("delete", "tiny", "--yes")[0] == 0  # another study of that name leaves the model's files alone
    assert [path.name for path in (outputs / "artifacts" / "tiny").iterdir()] == [kept] and tracking.artifacts(kept)


@pytest.mark.slow
def test_an_experiment_in_the_trash_gives_its_name_back_too(study: Store, run_here: Callable[..., Store]) -> None:
    tracking.client().delete_experiment(tracking.find_experiment("tiny").experiment_id)  # as the UI does
    assert call("delete", "tiny", "--yes")[0] == 0
    again(run_here)


@pytest.mark.slow
def test_an_interrupted_deletion_is_resumed_and_nobody_runs_the_study_meanwhile(
    study: Store, outputs: Path, run_here: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    once, seen = deleting.delete_run, list[str]()

    def interrupted(run_id: str) -> None:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(run_id)
        once(run_id)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(deleting, "delete_run", interrupted)
        api.open_study("tiny").delete()
    assert (status.of("tiny").state, status.of("tiny").why) == (
        "deleting",
        paths.command("delete tiny") + " completes it",
    )
    assert [problem.what for problem in doctor.examine()] == ["tiny: it is being deleted, and that was interrupted"]
    with pytest.raises(UserError, match="study 'tiny' is being deleted: sweep delete tiny completes that"):
        again(run_here)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "delete", interrupted)  # all but the last step
        seen.append("")
        seen[:] = seen[:2]
        api.open_study("tiny").delete()
    assert api.open_study("tiny").delete() == []
    assert storage.study_names() == [] and not (outputs / "artifacts" / "tiny").exists()
    again(run_here)


def test_a_deleted_trial_keeps_its_number_and_is_seen_no_more(study: Store, outputs: Path) -> None:
    gone = int(frames.best_runs("tiny", top=1).trial.iloc[0])
    run_id = str(frames.best_runs("tiny", top=1).run_id.iloc[0])
    for number, expected in ((9, "has no trial 9: it has 4"), (-1, "no such option")):
        code, out = call("delete", "tiny", number, "--yes")
        assert code == 2 and expected.lower() in out.lower() and out.count("\n") == 1
    code, out = call("delete", "tiny", gone, "--yes")
    assert code == 0 and out.endswith(f"trial {gone} is deleted; its number stays used\n")
    assert sorted(runs("tiny").trial) == sorted({0, 1, 2, 3} - {gone})
    assert deleted(Store("tiny").trials()[gone]) and status.of("tiny").trials == (4, 4)
    assert not list((outputs / "artifacts" / "tiny" / run_id).rglob("*.*"))
    assert not list(doctor.examine()) and call("best", "tiny")[0] == 0
    code, out = call("delete", "tiny", gone, "--yes")
    assert code == 2 and f"trial {gone} of 'tiny' was deleted already" in out
    with pytest.raises(UserError, match="no trial of 'tiny' has failed"):
        doctor.retry("tiny", [])
    left = SeenStudy("tiny")
    assert "1 deleted" in status.snapshot(left, left.as_begun()).line()


def test_what_something_else_is_made_of_is_not_deleted(seeded: Store) -> None:
    trial = int(systems.confirmations("tiny").trial.iloc[0])
    with pytest.raises(
        UserError, match=f"trial {trial} was trained again as study 'tiny-confirm-{trial}': delete that first"
    ):
        delete.trial("tiny", trial)
    other = next(number for number in range(4) if number not in set(systems.confirmations("tiny").trial))
    register(seeded.trials()[other].user_attrs[names.RUN_ID])
    with pytest.raises(UserError, match=f"trial {other} is version 1 of mine, a registered model"):
        delete.trial("tiny", other)
    claimed = seeded.trials()[other]
    with pytest.raises(UserError, match="was running 0 s ago: stop it"):
        seeded.note_session("now", 0.0)
        delete.study("tiny")
    assert claimed == seeded.trials()[other] and names.DELETING not in seeded.attributes()


def test_a_seed_of_a_confirmation_is_not_deleted_alone(seeded: Store) -> None:
    name = next(name for name in storage.study_names() if name.startswith("tiny-confirm-"))
    with pytest.raises(UserError, match="are seeds that a verdict counts, and cannot be deleted one by one"):
        api.open_study(name).delete(0)


@pytest.mark.slow
def test_one_confirmation_goes_alone(seeded: Store) -> None:
    before = systems.confirmations("tiny")
    trial = int(before.trial.iloc[0])
    delete.study(f"tiny-confirm-{trial}")
    assert set(systems.confirmations("tiny").trial) == set(before.trial) - {trial} and len(runs("tiny")) == 4
    assert not list(doctor.examine())
    delete.trial("tiny", trial)


@pytest.mark.slow
def test_a_study_is_deleted_through_a_server(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Store]
) -> None:
    files = tmp_path / "files"
    with MlflowServer(tmp_path, postgres.new_database(), files) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        monkeypatch.setenv("OPTUNA_STORAGE", postgres.new_database())
        again(run_here)
        assert [path for path in files.rglob("*") if path.is_file()]
        assert delete.study("tiny") == []
        assert storage.study_names() == [] and not [path for path in files.rglob("*") if path.is_file()]
        assert repair.running() == []
        again(run_here)
