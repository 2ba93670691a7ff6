"""What trials ask between their epochs, and what it costs the stores to answer."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from pipelines import datasets
from pipelines.tracking import store
from pipelines.train import AfterEpoch, BeforeEpoch, End, EpochMetrics
from sweeps.running import launch, watchdog
from sweeps.running.resources import ThisMachine
from sweeps.running.trial import Control, Trial
from sweeps.running.worker import _Worker
from sweeps.stores.lease import Lease
from sweeps.stores.store import Store
from sweeps.study import study_file

TINY: dict[str, Any] = {
    "name": "asking",
    "model": "tests.tiny_model",
    "dataset": "mnist-5k",
    "search": {"learning_rate": {"float": [1e-4, 1e-2]}},
    "training": {"epochs": 4},
    "start": [],
    "sampler": "random",
}


class Asking:
    """Trials of a study that is stored, claimed, with a run each."""

    def __init__(self, trials: int, **changes: Any):
        study = study_file.check(TINY | {"budget": {"trials": trials}} | changes, "test")
        self.store, assignment = launch._prepare(study, datasets.load("mnist-5k"), ThisMachine(device="cpu"), "sweep")
        lease, stop = Lease.of_this_process("here", os.getppid()), threading.Event()
        watch = watchdog.Watchdog(os.getppid(), 3600)
        worker = _Worker(assignment, stop, self.store, watch, lease)
        self.control, self.stop = Control(assignment, stop, self.store, lease, watch), stop
        self.trials = []
        for _ in range(trials):
            claimed = self.store.claim(trials, lease)
            assert claimed is not None
            run = worker._open_run(claimed, study.run_config({"learning_rate": 1e-3}, seed=0))
            self.trials.append(Trial(claimed, run, Path("none.npz"), dict))

    def before(self, epoch: int) -> list[End | None]:
        return self.control.answer([(trial, BeforeEpoch(epoch)) for trial in self.trials])

    def after(self, epoch: int, *accuracies: float) -> list[End | None]:
        """Tell of an epoch of every trial."""
        told = [EpochMetrics({"loss": 1.0}, {"accuracy": value, "loss": 1.0}, 1e-3, 60.0) for value in accuracies]
        return self.control.answer(
            [(trial, AfterEpoch(epoch, [one])) for trial, one in zip(self.trials, told, strict=True)]
        )


@contextmanager
def counted(*engines: sqlalchemy.Engine) -> Iterator[dict[str, int]]:
    """Count the transactions that are committed, and the statements that are sent, meanwhile."""
    counts = {"commits": 0, "statements": 0}

    def count(what: str) -> Any:
        return lambda *_: counts.__setitem__(what, counts[what] + 1)

    listeners = [("commit", count("commits")), ("before_cursor_execute", count("statements"))]
    heard = [(engine, *listener) for engine in engines for listener in listeners]
    for each in heard:
        sqlalchemy.event.listen(*each)
    yield counts
    for each in heard:
        sqlalchemy.event.remove(*each)


@pytest.fixture(autouse=True)
def _outputs(outputs: Path) -> None:
    outputs.mkdir()


def test_an_epoch_costs_many_trials_as_many_transactions_as_one() -> None:
    costs = {}
    for trials in (1, 12):
        asking = Asking(trials, name=f"asking{trials}")
        asking.before(0), asking.after(0, *[0.5] * trials)
        database = store.opened_database()
        assert database is not None
        with counted(asking.store._rdb.engine, database.engine) as counts:
            assert asking.before(1) == [None] * trials
            assert asking.after(1, *[0.6] * trials) == [None] * trials
        costs[trials] = counts
    assert costs[12]["commits"] == costs[1]["commits"] <= 7
    assert costs[12]["statements"] == costs[1]["statements"]


def test_where_too_few_epochs_are_left_the_lowest_numbers_get_them() -> None:
    asking = Asking(4, budget={"trials": 4, "epochs": 6})
    assert asking.before(0) == [None] * 4 and asking.after(0, 0.1, 0.2, 0.3, 0.4) == [None] * 4
    assert asking.before(1) == [None, None, End.BUDGET, End.BUDGET]
    assert asking.store.epochs_spent() == 6
    assert asking.before(0) == [End.PAUSED] * 4  # one that has not begun is given back


def test_each_trial_has_its_own_answer() -> None:
    asking = Asking(4, trial_minutes=1)
    assert asking.before(0) == [None] * 4
    asking.store.release(asking.trials[0].claimed)
    assert asking.store.requests.stop_trial(1)
    asking.trials[2].seconds = 60.0
    assert asking.before(1) == [End.ABANDONED, End.STOPPED, End.BUDGET, None]
    asking.stop.set()
    assert asking.before(1) == [End.ABANDONED, End.STOPPED, End.PAUSED, End.PAUSED]
    told = asking.after(0, 0.1, 0.2, 0.3, 0.4)
    assert told == [End.ABANDONED, None, None, None]
    values = [trial.intermediate_values for trial in Store("asking").trials()]
    assert values == [{}, {1: 0.2}, {1: 0.3}, {1: 0.4}]  # nothing of the one that is another's


@pytest.mark.parametrize(
    "pruner", [{"name": "asha", "min_resource": 1, "reduction_factor": 2}, "median", "none"], ids=str
)
def test_trials_are_pruned_together_as_they_would_be_one_after_the_other(pruner: Any) -> None:
    changes = {
        "pruner": {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 0} if pruner == "median" else pruner
    }
    accuracies = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3]
    together = Asking(6, **changes)
    at_once = together.after(0, *accuracies)
    one_by_one = Asking(6, name="alone", **changes)
    answers = []
    for trial, value in zip(one_by_one.trials, accuracies, strict=True):
        measured = EpochMetrics({"loss": 1.0}, {"accuracy": value, "loss": 1.0}, 1e-3, 60.0)
        answers += one_by_one.control.answer([(trial, AfterEpoch(0, [measured]))])
    if pruner != "median":  # which compares with trials that have ended, and none has
        assert at_once == answers
    assert (End.PRUNED in at_once) == (pruner not in ("none", "median"))
    noted = (
        [trial.system_attrs for trial in together.store.trials()],
        [trial.system_attrs for trial in one_by_one.store.trials()],
    )
    assert noted[0] == noted[1]
