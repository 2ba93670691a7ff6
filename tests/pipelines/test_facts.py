"""The facts of many runs, read from the database's tables, are those that MLflow gives."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.loopback import MlflowServer, Postgres
from pipelines.tracking import database, facts, names, store
from pipelines.tracking.facts import Wanted
from pipelines.tracking.records import RunFacts
from pipelines.tracking.run import TrackedRun

METRIC = "val_accuracy"
WANTED = Wanted(metrics=(METRIC, "seconds"), tags=("trial", "ended"))
VALUES = {0: 0.97, 1: math.nan, 2: 0.99, 10: 0.98, 9: 0.98, 4: None, 5: 0.995, 6: 0.999, 7: 1.0}
PRUNED, DELETED, UNFINISHED = 5, 6, 7


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def experiment(request: pytest.FixtureRequest, made_stores: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An experiment with the trials of VALUES, their parent run, and a trial of a study before this one."""
    if request.param == "postgresql":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("postgres").new_database())
    experiment = store.open_experiment("study")
    make_trial(experiment.experiment_id, store.open_parent(experiment, "earlier", "sweep", {}), "earlier", 2, 1.0)
    parent = store.open_parent(experiment, "uid", "sweep", {})
    for number, value in VALUES.items():
        run = make_trial(experiment.experiment_id, parent, "uid", number, value)
        if number == DELETED:
            store.discard_run(run.run_id)
    yield experiment.experiment_id


def make_trial(experiment_id: str, parent: str, uid: str, number: int, value: float | None) -> TrackedRun:
    tags = {"phase": "sweep", "study_uid": uid, "trial": str(number), "ended": "completed", "git_commit": "def"}
    run = TrackedRun.create(experiment_id, parent, f"trial {number}", tags)
    run.log_metric("epoch_val_accuracy", 0.9, 1)
    run.log_inputs({"dropout": number / 10, "l2": 0.001}, "mnist-5k", "abc")
    run.log_summary({"seconds": 1.0 * number, "unwanted": 5.0} | ({} if value is None else {METRIC: value}))
    run.send()
    if number != UNFINISHED:
        run.close("KILLED" if number == PRUNED else "FINISHED")
    return run


def comparable(found: list[RunFacts]) -> dict[int, RunFacts]:
    """By trial, and with text for NaN, which equals nothing."""
    told = {int(each.tags["trial"]): each for each in found}
    assert len(told) == len(found)
    return {
        number: RunFacts(
            each.run_id, each.status, each.params, {k: repr(v) for k, v in each.metrics.items()}, each.tags
        )
        for number, each in told.items()
    }


def as_mlflow_has_them(experiment_id: str) -> list[RunFacts]:
    whole = store.study_runs(experiment_id, "uid")
    return [
        replace(
            each,
            metrics={
                name: value for name, value in each.metrics.items() if name in (*WANTED.metrics, "epoch_val_accuracy")
            },
            tags={name: value for name, value in each.tags.items() if name in WANTED.tags},
        )
        for each in whole
    ]


def test_the_facts_are_mlflows(experiment: str) -> None:
    everything = comparable(as_mlflow_has_them(experiment))
    for uid in ("uid", None):
        assert comparable(facts.of_trials(experiment, WANTED, uid)) == everything
    assert set(everything) == set(VALUES) - {DELETED}
    curve = {"epoch_val_accuracy": "0.9"}
    assert everything[1].metrics == {METRIC: "nan", "seconds": "1.0"} | curve
    assert everything[4].metrics == {"seconds": "4.0"} | curve
    by_rank = [2, 9, 10, 0, 1, 4]  # equal ones by number; without an accuracy, or with NaN, last
    for most in range(1, 9):
        best = comparable(facts.of_best_trials(experiment, WANTED, METRIC, "maximize", most))
        assert best == {number: everything[number] for number in by_rank[:most]}


def test_the_tables_and_tags_are_mlflows() -> None:
    from mlflow.store.tracking.dbmodels import models
    from mlflow.utils import mlflow_tags

    theirs = models.Base.metadata.tables
    for table in database._tables.tables.values():
        assert {column.name for column in table.columns} <= {column.name for column in theirs[table.name].columns}
    own = (
        names.PARENT_RUN,
        names.RUN_NAME,
        names.NOTE,
        names.SOURCE_NAME,
        names.USER,
        names.COMMIT,
        names.DATASET_CONTEXT,
    )
    wanted = ("PARENT_RUN_ID", "RUN_NAME", "RUN_NOTE", "SOURCE_NAME", "USER", "GIT_COMMIT", "DATASET_CONTEXT")
    assert own == tuple(getattr(mlflow_tags, f"MLFLOW_{name}") for name in wanted)


def test_experiments_are_those_that_mlflow_gives(experiment: str) -> None:
    trashed = store.open_experiment("trashed", "other")
    store.client().delete_experiment(trashed.experiment_id)
    found = database.experiments()
    assert found is not None and [each.name for each in store.all_experiments()] == ["study", "Default"]
    assert {each.name: each.active for each in found} == {"study": True, "Default": True, "trashed": False}
    assert store.current_study(experiment) == "uid" == store.find_experiment("study").tags[store.STUDY_UID]
    assert store.find_by_uid("uid").experiment_id == experiment and store.uid_of("nothing") is None


@pytest.mark.slow
def test_a_server_gives_the_same(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = postgres.new_database()
    with MlflowServer(tmp_path, database, tmp_path) as server:
        found = []
        for uri in (server.url, database):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            experiment = store.open_experiment("study")
            if not found:
                assert not facts.any_trial(experiment.experiment_id, WANTED)
                parent = store.open_parent(experiment, "uid", "sweep", {})
                make_trial(experiment.experiment_id, parent, "uid", 3, 0.5)
            with monkeypatch.context() as patch:  # to know whether there are any, one is enough
                patch.delattr(store, "all_runs")
                assert facts.any_trial(experiment.experiment_id, WANTED)
            (each,) = facts.of_trials(experiment.experiment_id, WANTED)
            (best,) = facts.of_best_trials(experiment.experiment_id, WANTED, METRIC, "maximize", 5)
            assert best == each
            found.append((each.run_id, each.status, each.params, each.metrics[METRIC], each.tags["trial"]))
    assert found[0] == found[1]
