"""Kind 4: the doctor moves nothing that another store may know, and says what it looked at."""

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.tracking import store as tracking
from sweeps import runs
from sweeps.cli import main
from sweeps.results import leaderboard
from sweeps.stores.record import StoredStudy
from sweeps.stores.store import Store
from sweeps.tasks import doctor


def old(folder: Path) -> Path:
    """Make a folder that nobody has touched for an hour."""
    folder.mkdir(parents=True)
    os.utime(folder, (time.time() - 3600,) * 2)
    return folder


@pytest.fixture
def finished(study: Store) -> Store:
    """A study that nobody runs; it noted no session in this process."""
    return study


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"])
def test_with_a_store_elsewhere_local_files_stay(
    variable: str, finished: Store, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_stores: Path
) -> None:
    file = {"MLFLOW_TRACKING_URI": "mlflow.db", "OPTUNA_STORAGE": "optuna.db"}[variable]
    (tmp_path / "elsewhere.db").write_bytes((empty_stores / file).read_bytes())
    monkeypatch.setenv(variable, f"sqlite:///{tmp_path / 'elsewhere.db'}")
    for path in [*outputs.rglob("*"), old(outputs / "checkpoints/gone")]:
        os.utime(path, (time.time() - 3600,) * 2)
    before = sorted(outputs.rglob("*"))
    list(doctor.fix())
    assert sorted(outputs.rglob("*")) == before
    assert "but its artifacts" in doctor.looked_at()


def test_what_the_stores_beside_it_do_not_know_is_moved_and_nothing_that_mlflow_did_not_name(
    finished: Store, outputs: Path
) -> None:
    orphan = old(outputs / "artifacts/tiny" / ("0" * 32))
    others = [old(outputs / "artifacts/tiny/models/m-1"), old(outputs / "artifacts/mine/notes")]
    list(doctor.fix())
    assert not orphan.exists() and (outputs / "orphans/artifacts/tiny" / ("0" * 32)).exists()
    assert all(each.exists() for each in others)


def test_one_ill_study_does_not_hide_the_others(finished: Store) -> None:
    ill = Store.create("a broken one")
    ill.remember("study", {"name": 3})
    ill.study().add_trial(__import__("optuna").create_trial(value=0.5))
    run_id = runs("tiny").run_id[0]
    tracking.client().update_run(run_id, status="RUNNING")
    found = CliRunner().invoke(main, ["doctor"])
    assert "is COMPLETE, and its run RUNNING" in found.output and found.exit_code == 1
    assert "looked at 2 studies with 5 trials" in found.output
    mended = CliRunner().invoke(main, ["doctor", "--fix"])
    assert "set the run to FINISHED" in mended.output
    assert tracking.get_run(run_id).status == "FINISHED"


def test_a_run_that_is_rebuilt_has_the_digest_and_nothing_prints_nan(finished: Store) -> None:
    from rich.console import Console

    experiment = StoredStudy("tiny").experiment()
    before = tracking.get_run(runs("tiny").run_id[0])
    tracking.client().delete_run(before.run_id)
    import subprocess
    import sys

    subprocess.run(
        [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", tracking.uri(), "--run-ids", before.run_id],
        check=True,
        capture_output=True,
        env=os.environ | {"MLFLOW_TRACKING_URI": tracking.uri()},
    )
    assert any("has no run" in problem.what for problem in doctor.fix("tiny"))
    again = [
        run
        for run in tracking.all_runs(experiment.experiment_id, f"tags.trial = '{before.tags['trial']}'")  # type: ignore[union-attr]
        if run.tags["phase"] == "sweep"
    ]
    assert again[0].tags["dataset_digest"] == before.tags["dataset_digest"]
    console = Console(width=200, record=True)
    leaderboard.show("tiny", console)
    assert "nan" not in console.export_text().lower()
