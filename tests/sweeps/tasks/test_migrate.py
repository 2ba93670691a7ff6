"""A study moves from the files of one machine to a PostgreSQL server and an MLflow server, and is all there."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.trial import TrialState
from rich.console import Console

from deploy.loopback import MlflowServer, Postgres
from pipelines import datasets, paths
from pipelines.errors import UserError
from pipelines.tracking import store as tracking
from pipelines.tracking.records import RunFacts
from pipelines.tracking.run import TrackedRun
from sweeps import best_runs, confirmations, runs
from sweeps.running import launch, worker
from sweeps.running.resources import ThisMachine
from sweeps.stores import record, sessions
from sweeps.stores.lease import Lease
from sweeps.stores.store import Store
from sweeps.tasks import doctor, migrate

QUIET = Console(quiet=True)


@dataclass(frozen=True)
class There:
    """Where a study is to go."""

    storage: str
    tracking: str
    outputs: Path

    def move_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Work with the stores there from now on, on a machine without outputs of its own."""
        monkeypatch.setenv("OPTUNA_STORAGE", self.storage)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", self.tracking)
        monkeypatch.setenv("MLRUNS_DIR", str(self.outputs))
        self.outputs.mkdir()


@pytest.fixture
def there(postgres: Postgres, tmp_path: Path) -> Iterator[There]:
    with MlflowServer(tmp_path, postgres.new_database(), tmp_path) as server:
        yield There(postgres.new_database(), server.url, tmp_path / "elsewhere")


@pytest.fixture
def rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """The studies of the fixtures ran a moment ago, and nobody runs them now."""
    monkeypatch.setattr(sessions, "REST_AFTER_SESSION", -1.0)


def without_ids(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="run_id")


@pytest.mark.slow
@pytest.mark.usefixtures("rested")
def test_a_study_and_what_was_confirmed_of_it_are_all_there(
    seeded: Store, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seeds = runs("tiny"), confirmations("tiny")
    assert len(before) == 4 and len(seeds) == 6
    check_best(before)
    migrate.run("tiny", there.storage, there.tracking, QUIET)
    migrate.run("tiny", there.storage, there.tracking, QUIET)  # again: nothing is copied twice
    there.move_in(monkeypatch)
    after = runs("tiny")
    pd.testing.assert_frame_equal(without_ids(after), without_ids(before))
    assert not set(after.run_id) & set(before.run_id)
    check_best(after)  # of a server now
    pd.testing.assert_frame_equal(without_ids(confirmations("tiny")), without_ids(seeds))
    assert Store("tiny").epochs_spent() == seeded.epochs_spent() == 4
    assert [trial.user_attrs["run_id"] for trial in Store("tiny").trials()] == list(after.sort_values("trial").run_id)
    experiment = tracking.find_experiment("tiny")
    (parent,) = tracking.parent_runs(experiment.experiment_id, Store("tiny").attributes()["uid"])
    of_trials = tracking.trial_runs(experiment.experiment_id)
    assert {run.tags["mlflow.parentRunId"] for run in of_trials} == {parent.run_id}
    for name in confirmed_studies():
        (of_seeds,) = tracking.parent_runs(experiment.experiment_id, Store(name).attributes()["uid"])
        assert of_seeds.tags["mlflow.parentRunId"] == parent.run_id
    assert "model.keras" in tracking.artifacts(after.run_id[0])
    for name in ("tiny", *confirmed_studies()):
        assert [problem.what for problem in doctor.examine(name)] == []


def check_best(frame: pd.DataFrame) -> None:
    for top in (1, 2, 10):
        complete = frame[frame.state == "complete"].head(top).reset_index(drop=True)
        pd.testing.assert_frame_equal(best_runs("tiny", top=top), complete, check_dtype=False, check_categorical=False)


def confirmed_studies() -> list[str]:
    from sweeps.results.choice import confirmed_trials

    return [*confirmed_trials("tiny").values()]


class AfterOneEpoch:
    """Asks the worker to stop when an epoch more has begun."""

    def __init__(self) -> None:
        self._before = Store("tiny").epochs_spent()

    def is_set(self) -> bool:
        return Store("tiny").epochs_spent() > self._before


def train(study: Any, watch: Any, stop: Any) -> None:
    store, assignment = launch._prepare(study, datasets.load(study.dataset), ThisMachine(device="cpu"), "sweep")
    store.queue(study.budget.trials)
    worker._Worker(assignment, stop, store, watch, Lease.of_this_process("here", os.getppid())).run_trials()
    TrackedRun(assignment.parent_run_id).close("SCHEDULED")  # as its parent would


class Never:
    def is_set(self) -> bool:
        return False


@pytest.mark.slow
@pytest.mark.usefixtures("rested")
def test_an_unfinished_study_goes_on_there_from_its_checkpoint(
    study: Store, there: There, watch: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    longer = record.restore("tiny", study.attributes(), {"trials": 5})
    longer = longer.model_copy(update={"training": longer.training | {"epochs": 3}})
    monkeypatch.setattr(
        launch, "_check_definition", lambda _, study, *__: study
    )  # longer than the others, for the test's sake
    train(longer, watch, AfterOneEpoch())
    assert Store("tiny").trials()[4].state == TrialState.WAITING and paths.checkpoint("tiny", 4).exists()
    moved = paths.mlruns().rename(tmp_path / "moved")  # and nobody has resumed the study since
    monkeypatch.setenv("MLRUNS_DIR", str(moved))
    migrate.run("tiny", there.storage, there.tracking, QUIET)
    there.move_in(monkeypatch)
    train(longer, watch, Never())
    (last,) = [trial for trial in Store("tiny").trials() if trial.number == 4]
    assert last.state == TrialState.COMPLETE and len(last.intermediate_values) == 3
    assert "model.keras" in tracking.artifacts(Store("tiny").trials()[0].user_attrs["run_id"])
    assert Store("tiny").epochs_spent() == 4 + 3  # the one before the move was not trained again
    steps = tracking.history(last.user_attrs["run_id"], "epoch_val_accuracy")
    assert list(steps) == [1, 2, 3]
    assert not [path for path in tracking.artifacts(last.user_attrs["run_id"]) if path.startswith("checkpoint")]


@pytest.mark.slow
@pytest.mark.usefixtures("rested")
def test_an_interrupted_copy_is_made_good_and_a_copy_that_differs_is_noticed(
    study: Store, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tracking.client_of(there.tracking)
    log_artifacts, calls = target.log_artifacts, []

    def breaks(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("away")
        log_artifacts(*arguments)

    monkeypatch.setattr(target, "log_artifacts", breaks)
    with pytest.raises(OSError, match="away"):
        migrate.run("tiny", there.storage, there.tracking, QUIET)
    migrate.run("tiny", there.storage, there.tracking, QUIET)
    assert len(calls) == 3 + 3  # a parent and four trials; two were whole before
    (experiment,) = [each for each in target.search_experiments() if each.name == "tiny"]
    found = [*map(RunFacts.of, target.search_runs([experiment.experiment_id]))]
    assert len(found) == 5
    spoilt = next(run for run in found if run.tags.get("trial") == "2")
    target.log_metric(spoilt.run_id, "epoch_val_accuracy", 0.5, step=1)
    with pytest.raises(UserError, match=r"the copy differs from the original .*epoch_val_accuracy differ"):
        migrate.run("tiny", there.storage, there.tracking, QUIET)


@pytest.mark.slow
def test_what_cannot_be_copied_is_said(study: Store, there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    study.note_session("a parent's", time.time())
    with pytest.raises(UserError, match="was running"):
        migrate.run("tiny", there.storage, there.tracking, QUIET)
    with pytest.raises(UserError, match="Optuna and MLflow need a database each"):
        migrate.run("tiny", there.storage, there.storage, QUIET)
    monkeypatch.setattr(sessions, "REST_AFTER_SESSION", -1.0)
    Store.create("tiny", at=there.storage).queue(1)
    with pytest.raises(UserError, match="there is another study 'tiny' in the target's storage"):
        migrate.run("tiny", there.storage, there.tracking, QUIET)
    with pytest.raises(UserError, match="there is no study 'other'"):
        migrate.run("other", there.storage, there.tracking, QUIET)
