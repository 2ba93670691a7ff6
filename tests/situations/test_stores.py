"""Kind 3: renames, moves, addresses of every kind, and errors that do not pass."""

import contextlib
import os
import shutil
import sqlite3
import urllib.request
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState
from rich.console import Console

from pipelines import addresses
from pipelines.errors import ErrorKind, StoreUnavailable, UserError, lasts
from pipelines.tracking import places
from pipelines.tracking import store as tracking
from sweeps import best_runs, runs
from sweeps.results import choice, leaderboard, report, systems
from sweeps.running import launch, moved
from sweeps.running.resources import ThisMachine
from sweeps.stores import storage
from sweeps.stores.record import StoredStudy
from sweeps.stores.storage import kind_of
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import doctor
from tests.conftest import TINY, copy_stores

QUICK = {"training": {"epochs": 1, "batch_size": 200}, "budget": {"trials": 4}}


@pytest.fixture
def rename_in_the_dashboard() -> Iterator[Callable[[str, str], None]]:
    """Rename a study as Optuna's dashboard does, by its own server."""
    from optuna_dashboard import wsgi

    served = []

    def rename(old: str, new: str) -> None:
        dashboards = optuna.storages.RDBStorage(storage.url())
        server = wsgiref.simple_server.make_server("127.0.0.1", 0, wsgi(dashboards))
        Thread(target=server.serve_forever, daemon=True).start()
        served.append(server)
        number = dashboards.get_study_id_from_name(old)
        asked = urllib.request.Request(
            f"http://127.0.0.1:{server.server_port}/api/studies/{number}/rename",
            f'{{"study_name": "{new}"}}'.encode(),
            {"Content-Type": "application/json"},
        )
        assert urllib.request.urlopen(asked).status == 201

    yield rename
    for server in served:
        server.shutdown()


def printed(function: Callable[..., Any], *arguments: Any) -> str:
    console = Console(width=300, record=True, quiet=False)
    function(*arguments, console)
    return console.export_text()


def test_a_study_renamed_in_optuna_s_dashboard_is_still_one(
    study: Store, rename_in_the_dashboard: Callable[[str, str], None], run_here: Callable[..., Store]
) -> None:
    spent, uid = study.epochs_spent(), study.uid
    rename_in_the_dashboard("tiny", "better name")
    assert storage.study_names() == ["better name"]
    for name in ("tiny", "better name"):
        found = Store(name)
        assert (found.uid, found.epochs_spent()) == (uid, spent)
        assert len(runs(name)) == 4 and len(best_runs(name, 2)) == 2
        assert "4 complete" in printed(leaderboard.show, name)
        assert StoredStudy(name).name == "tiny" and StoredStudy(name).parent_run()
    assert "is called better name in Optuna's storage now, and is resumed" in (Store("tiny").note_on_name or "")
    again = run_here(study_file.check(TINY | QUICK | {"budget": {"trials": 5}}, "test"))
    assert storage.study_names() == ["better name"] and again.uid == uid
    assert [trial.state for trial in again.trials()] == [TrialState.COMPLETE] * 5
    assert again.epochs_spent() == spent + 1 and len(runs("tiny")) == 5
    assert not list(doctor.examine())


def test_a_study_renamed_in_mlflow_is_still_one(study: Store, run_here: Callable[..., Store]) -> None:
    experiment = StoredStudy("tiny").experiment()
    assert experiment is not None
    tracking.client().rename_experiment(experiment.experiment_id, "renamed")
    for name in ("tiny", "renamed"):
        assert Store(name).uid == study.uid and len(runs(name)) == 4
    again = run_here(study_file.check(TINY | QUICK | {"name": "renamed", "budget": {"trials": 5}}, "test"))
    assert storage.study_names() == ["tiny"] and len(again.trials()) == 5 and again.uid == study.uid
    assert [each.name for each in tracking.all_experiments() if tracking.STUDY_UID in each.tags] == ["renamed"]
    assert len(runs("tiny")) == 5


def test_what_was_confirmed_stays_with_a_renamed_study(
    seeded: Store, rename_in_the_dashboard: Callable[[str, str], None]
) -> None:
    before = systems.confirmations("tiny")
    rename_in_the_dashboard("tiny", "other")
    assert systems.confirmations("other").run_id.tolist() == before.run_id.tolist()
    assert choice.confirmed_trials("tiny")


def test_the_epochs_of_a_study_of_0_1_0_are_found(study: Store) -> None:
    spent = study.epochs_spent()
    with contextlib.closing(sqlite3.connect(str(addresses.file_of(storage.url())))) as file, file:
        file.execute("CREATE TABLE epoch_ledger (study_id INTEGER PRIMARY KEY, spent INTEGER NOT NULL)")
        file.execute("INSERT INTO epoch_ledger VALUES (?, ?)", (study._study_id, spent + 7))
        file.execute("DROP TABLE epochs_begun")
    assert Store("tiny").epochs_spent() == spent + 7
    assert Store.create("tiny").spend_epochs(1, None) and Store("tiny").epochs_spent() == spent + 8


@pytest.mark.slow
def test_a_rename_while_workers_run_ends_in_one_line(
    outputs: Path, write_study: Callable[..., Path], sweep: Any, rename_in_the_dashboard: Callable[[str, str], None]
) -> None:
    command = sweep("run", write_study(training={"epochs": 300, "batch_size": 50}, pruner="none"))
    command.lines_until("1 running")
    rename_in_the_dashboard("tiny", "moved on")
    code, _, err = command.wait()
    assert code == 2 and err.count("\n") == 1, err
    assert "was renamed to 'moved on' while it ran: resume it with sweep run 'moved on' --stored" in err
    assert Store("tiny").study_name == "moved on"


@pytest.mark.parametrize("name", ["what?now", "100%25 sure", "a b#c", "sqlite+pysqlite"])
def test_a_folder_of_any_name_holds_both_databases(
    name: str, tmp_path: Path, empty_stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setenv("MLRUNS_DIR", str(folder))
    copy_stores(empty_stores, folder)
    Store.create("study")
    experiment = tracking.open_experiment("study")
    assert Path(addresses.file_of(tracking.uri()) or "") == folder / "mlflow.db"
    assert {path.name for path in folder.iterdir()} >= {"mlflow.db", "optuna.db"} and len(list(tmp_path.iterdir())) == 1
    assert (
        tracking.client().get_experiment(experiment.experiment_id).artifact_location
        == (folder / "artifacts/study").as_uri()
    )


def test_every_way_to_write_an_sqlite_url_has_exclusive_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite+pysqlite:///{tmp_path / 'optuna.db'}")
    begun: list[str] = []
    engine = Store.create("study")._rdb.engine

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        begun.append(statement)

    Store("study").trials()
    assert "BEGIN IMMEDIATE" in begun


def test_a_relative_url_means_one_file_and_an_empty_variable_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///mine.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert addresses.file_of(storage.url()) == tmp_path / "mine.db"
    assert addresses.file_of(tracking.uri()) == outputs / "mlflow.db"
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite://")
    with pytest.raises(UserError, match="a database in memory, which no other process sees"):
        storage.url()


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", None])
def test_reading_creates_nothing(variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLRUNS_DIR", "")
    if variable:
        monkeypatch.setenv(variable, "sqlite:///not_there.db")
    for read in (runs, best_runs, systems.verdicts, lambda: Store("x"), lambda: report.write("x", Console(), None)):
        with pytest.raises(UserError):
            read()
    assert storage.study_names() == [] and not list(doctor.examine())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def moved_folder(study: Store, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study's outputs, under another name."""
    there = tmp_path / "elsewhere" / "re named"
    there.parent.mkdir()
    outputs.rename(there)
    monkeypatch.setenv("MLRUNS_DIR", str(there))
    return there


def test_moved_results_are_read_without_a_write_and_put_right_by_what_writes(moved_folder: Path, outputs: Path) -> None:
    run_id = runs("tiny").run_id[0]
    digest = (moved_folder / "mlflow.db").read_bytes()
    assert "probabilities.npz" in tracking.artifacts(run_id)
    assert np.load(tracking.artifact_folder(run_id, "probabilities.npz", moved_folder / "x"))["test"].shape == (500, 10)
    assert (moved_folder / "mlflow.db").read_bytes() == digest
    said = moved.settle_in()
    assert said is not None and str(outputs) in said and "stored places have been put right" in said
    assert tracking.client().get_run(run_id).info.artifact_uri.startswith(moved_folder.as_uri())
    assert moved.settle_in() is None and places.former_roots() == []
    assert not list(doctor.examine()) and not outputs.exists()


def test_a_copy_never_touches_the_original(
    study: Store, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Store]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(outputs, copy)
    before = {path: path.stat().st_mtime_ns for path in outputs.rglob("*")}
    monkeypatch.setenv("MLRUNS_DIR", str(copy))
    assert moved.settle_in()
    run_here(study_file.check(TINY | QUICK | {"budget": {"trials": 5}}, "test"))
    assert {path: path.stat().st_mtime_ns for path in outputs.rglob("*")} == before
    assert tracking.client().get_run(runs("tiny").run_id[0]).info.artifact_uri.startswith(copy.as_uri())
    assert len(list((copy / "artifacts/tiny").iterdir())) >= 6


def test_nothing_is_rewritten_while_a_sweep_runs(moved_folder: Path) -> None:
    Store("tiny").note_session("now", 0.0)
    with pytest.raises(UserError, match="a sweep ran on them a moment ago: try again in a minute"):
        moved.settle_in()
    assert places.former_roots()


@pytest.mark.parametrize(
    ("make", "final"),
    [
        (lambda file: file.write_bytes(b"no database at all" * 100), True),
        (lambda file: file.chmod(0o444), True),
    ],
)
def test_an_error_that_does_not_pass_is_said_and_not_waited_for(
    make: Callable[[Path], None], final: bool, study: Store, outputs: Path
) -> None:
    file = outputs / "optuna.db"
    make(file)
    if os.geteuid() == 0 and file.stat().st_mode & 0o777 == 0o444:
        pytest.skip("root may write to any file")
    with pytest.raises(
        (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, StoreUnavailable)
    ) as error:
        Store("tiny").note_session("now", 0.0)
    assert kind_of(error.value) is (ErrorKind.LASTING if final else ErrorKind.AWAY)


@pytest.mark.parametrize(
    ("text", "lasting"),
    [
        ("(sqlite3.OperationalError) attempt to write a readonly database", True),
        ("(sqlite3.OperationalError) database is locked", False),
        ("(sqlite3.OperationalError) no such table: trials", True),
        ("(sqlite3.DatabaseError) file is not a database", True),
        ('FATAL:  password authentication failed for user "me"', True),
        ('FATAL:  database "optuna" does not exist', True),
        ("connection refused: is the server running?", False),
        ("API request to http://h:5000/api failed with error code 403 != 200", True),
        ("API request to http://h:5000/api failed with error code 503 != 200", False),
    ],
)
def test_what_lasts_and_what_passes(text: str, lasting: bool) -> None:
    assert lasts(RuntimeError(text)) is lasting


def test_an_experiment_in_the_trash_is_taken_out_by_the_advice_that_is_given(
    study: Store, run_here: Callable[..., Store]
) -> None:
    experiment = StoredStudy("tiny").experiment()
    assert experiment is not None
    tracking.client().delete_experiment(experiment.experiment_id)
    wanted = study_file.check(TINY | QUICK | {"budget": {"trials": 5}}, "test")
    with pytest.raises(UserError, match="sweep doctor tiny --fix takes it out"):
        launch.run(wanted, ThisMachine(device="cpu"), Console(quiet=True))
    assert "its experiment is in MLflow's trash" in next(doctor.fix("tiny")).what
    assert len(run_here(wanted).trials()) == 5


def test_stores_of_one_url_share_their_connections(study: Store, outputs: Path) -> None:
    import psutil

    def connections() -> int:
        return sum(file.path == str(outputs / "optuna.db") for file in psutil.Process().open_files())

    before = connections()
    many = [Store("tiny") for _ in range(30)]
    assert all(each.epochs_spent() for each in many) and connections() <= before + 1
