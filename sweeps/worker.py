"""A worker: claims a ticket, trains it, tells the result; again, until none is left, it is asked to stop, or it has grown."""

import os
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
from optuna import Trial
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipelines import backend, checkpoint, data, paths, provenance
from pipelines.errors import UserError
from pipelines.execute import execute
from pipelines.tracking.run import TrackedRun
from pipelines.tracking.store import TrackingError, all_runs
from pipelines.train import End, EpochMetrics
from sweeps import space
from sweeps.store import HEARTBEAT_INTERVAL, Store
from sweeps.study import Study

USER_ERROR, HUNG, ORPHANED = 2, 70, 71  # exit codes
GROWTH = 2.0  # GiB above the first trial's memory at which a worker makes room for a fresh one
RUN_STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.WAITING: "SCHEDULED",
}
STORE_ERRORS = (TrackingError, SQLAlchemyError, StorageInternalError)  # not the trial's fault: end, and be retried


@dataclass(frozen=True)
class Assignment:
    """What a worker needs to know; plain data, so that it can travel to any process."""

    study: Study
    experiment_id: str
    parent_run_id: str
    device: backend.Device
    threads: int | None
    deadline: float | None  # Unix seconds at which the budget's hours are used up


class StopFlag(Protocol):
    """Set when the worker should return its trial after the current epoch."""

    def is_set(self) -> bool:
        """Whether to stop."""


def work(assignment: Assignment, stop: StopFlag, log: Path) -> None:
    """Run trials until there is nothing left to do; prints go to `log`, mistakes of the user end it with exit code 2."""
    parent = os.getppid()
    _print_to(log)
    try:
        backend.configure(assignment.device, assignment.threads)
        data.load(assignment.study.dataset)
        store = Store(assignment.study.name)
        watch = _Watch(store, parent, assignment.study.trial_timeout)
        first_memory = None
        while not stop.is_set() and _budget_left(store, assignment):
            claimed = store.claim(assignment.study.budget.trials)
            if claimed is None:
                break
            with watch.over(claimed):
                _run_trial(store, claimed, assignment, stop, watch)
            memory = psutil.Process().memory_info().rss / 2**30
            first_memory = first_memory or memory
            if memory > first_memory + GROWTH:
                print(f"grown from {first_memory:.1f} to {memory:.1f} GiB: making room for a fresh worker")
                break
    except UserError as error:
        print(error)
        sys.exit(USER_ERROR)


def _run_trial(store: Store, claimed: FrozenTrial, assignment: Assignment, stop: StopFlag, watch: "_Watch") -> None:
    study = assignment.study
    seed = space.trial_seed(study.seed, claimed.number)
    trial = store.ask(claimed, study.start_points, space.sampler(study, claimed.number), space.pruner(study))
    config = study.run_config(space.suggest(trial, study.search), seed)
    run = _open_run(store, claimed, assignment, config.params())
    control = _TrialControl(store, claimed, trial, run, assignment, config.training.epochs, stop, watch)
    saved = paths.checkpoint(study.name, claimed.number)
    try:
        outcome = execute(config, run, control, saved, [target.accuracy for target in study.targets])
    except STORE_ERRORS:
        raise
    except Exception as error:
        traceback.print_exc()
        if store.owns(claimed):
            _log_traceback(run)
            store.finish(
                claimed,
                TrialState.FAIL,
                ended=f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            )
            _close(run, saved, TrialState.FAIL, "failed")
        return
    end = outcome.trained.end
    if not store.owns(claimed):
        print(f"trial {claimed.number} is no longer ours: nothing more is written")
    elif end == End.PAUSED:
        run.close(RUN_STATUS[TrialState.WAITING])
        store.release(claimed)
    else:
        state = TrialState.COMPLETE if end == End.COMPLETED else TrialState.PRUNED
        store.finish(claimed, state, outcome.val_accuracy if state == TrialState.COMPLETE else None, ended=end)
        _close(run, saved, state, end)


def _close(run: TrackedRun, saved: Path, state: TrialState, ended: str) -> None:
    run.set_tags({"ended": ended})
    run.close(RUN_STATUS[state])
    checkpoint.remove(saved)


def _open_run(store: Store, claimed: FrozenTrial, assignment: Assignment, params: dict[str, object]) -> TrackedRun:
    """Return the trial's run: the one it has, one that a killed worker created but did not note, or a new one."""
    run_id = claimed.user_attrs.get("run_id")
    if run_id is None:
        found = all_runs(assignment.experiment_id, f"tags.trial = '{claimed.number}'")
        run_id = found[0].info.run_id if found else None
    if run_id is not None:
        store.note(claimed, "run_id", run_id)
        run = TrackedRun(run_id)
        run.reopen()
        return run
    study = assignment.study
    dataset = data.load(study.dataset)
    tags = {
        "phase": "sweep",
        "study": study.name,
        "study_digest": study.digest(),
        "trial": str(claimed.number),
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        **backend.describe(),
        **provenance.code(),
    }
    run = TrackedRun.create(assignment.experiment_id, assignment.parent_run_id, f"trial {claimed.number}", params, tags)
    store.note(claimed, "run_id", run.run_id)
    return run


def _log_traceback(run: TrackedRun) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "traceback.txt").write_text(traceback.format_exc())
        run.log_artifacts(Path(name))


def _budget_left(store: Store, assignment: Assignment) -> bool:
    limit = assignment.study.budget.epochs
    in_time = assignment.deadline is None or time.time() < assignment.deadline
    return in_time and (limit is None or store.epochs_spent() < limit)


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


class _TrialControl:
    """Between epochs: is the trial still ours, is there budget, does the pruner want to go on?"""

    def __init__(
        self,
        store: Store,
        claimed: FrozenTrial,
        trial: Trial,
        run: TrackedRun,
        assignment: Assignment,
        epochs: int,
        stop: StopFlag,
        watch: "_Watch",
    ):
        self._store, self._claimed, self._trial, self._run = store, claimed, trial, run
        self._assignment, self._stop, self._watch = assignment, stop, watch
        self._reported = set(claimed.intermediate_values)
        self._epochs = epochs

    def before_epoch(self, epoch: int) -> End | None:
        if not self._store.owns(self._claimed):
            return End.ABANDONED
        if self._stop.is_set():
            return End.PAUSED
        deadline = self._assignment.deadline
        late = deadline is not None and time.time() >= deadline
        if late or not self._store.spend_epoch(self._assignment.study.budget.epochs):
            return End.BUDGET if epoch else End.PAUSED
        return None

    def after_epoch(self, epoch: int, metrics: EpochMetrics) -> End | None:
        self._watch.progress()
        self._run.log_epoch(epoch, metrics)
        if not metrics.finite:
            return None
        step = epoch + 1  # epochs trained: the resource that pruners count
        if step not in self._reported:
            self._trial.report(metrics.val_accuracy, step)
        last = step == self._epochs  # paid for already: let it count
        return End.PRUNED if not last and self._trial.should_prune() else None


class _Watch:
    """A thread that beats for the running trial, and ends the process when its parent is gone or no epoch ends any more."""

    def __init__(self, store: Store, parent: int, timeout: float):
        self._store, self._parent, self._timeout = store, parent, timeout
        self._trial: FrozenTrial | None = None
        self._progress = self._beat = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    def over(self, trial: FrozenTrial) -> "_Watch":
        """Watch over `trial` inside a `with`."""
        self._trial = trial
        self.progress()
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._trial = None

    def progress(self) -> None:
        """Note that the trial moves."""
        self._progress = time.monotonic()

    def _run(self) -> None:
        while True:
            time.sleep(0.5)
            trial = self._trial
            if os.getppid() != self._parent:
                print("the parent process is gone", flush=True)
                self._give_back(trial)
                os._exit(ORPHANED)
            if trial is None:
                continue
            if time.monotonic() - self._progress > self._timeout:
                print(f"trial {trial.number}: no epoch ended within {self._timeout:g} s", flush=True)
                os._exit(HUNG)
            if time.monotonic() - self._beat > HEARTBEAT_INTERVAL:
                self._try_to_beat(trial)

    def _try_to_beat(self, trial: FrozenTrial) -> None:
        self._beat = time.monotonic()
        try:
            self._store.beat(trial)
        except STORE_ERRORS:  # the next beat may get through; if none does, the trial is released elsewhere
            traceback.print_exc()

    def _give_back(self, trial: FrozenTrial | None) -> None:
        try:
            if trial is not None and self._store.owns(trial):
                self._store.release(self._store.reread(trial))
        except STORE_ERRORS:  # the next parent sees that this process is gone
            traceback.print_exc()
