"""A trial between its epochs: is it still ours, is there budget, does the pruner stop it; and what an epoch is logged as."""

import time
from collections.abc import Sequence
from pathlib import Path

from optuna import Trial
from optuna.trial import FrozenTrial

from pipelines import device
from pipelines.tracking.run import TrackedRun
from pipelines.train import End, EpochMetrics
from sweeps.running.assignment import Assignment
from sweeps.running.executors import StopFlag
from sweeps.running.watchdog import Watchdog
from sweeps.stores.lease import Lease
from sweeps.stores.store import Store, curve


class TrialControl:
    """What `execute` asks before and after each epoch of a trial."""

    def __init__(
        self,
        assignment: Assignment,
        stop: StopFlag,
        store: Store,
        claimed: FrozenTrial,
        lease: Lease,
        trial: Trial,
        run: TrackedRun,
        saved: Path,
        watch: Watchdog,
        meter: device.Meter,
    ):
        self._assignment, self._stop, self._store, self._watch = assignment, stop, store, watch
        self._claimed, self._lease, self._trial, self._run, self._saved = claimed, lease, trial, run, saved
        self._reported = set(curve(claimed))
        self._meter = meter.reader()
        self._seconds = 0.0  # of its own epochs, those before a resumption included

    def before_epoch(self, epoch: int) -> End | None:
        """Count the epoch; return why there is to be none, or None."""
        self._watch.progress()
        if not self._store.owns(self._claimed, self._lease):
            return End.ABANDONED
        if self._store.stopping(self._claimed):
            return End.STOPPED
        if self._stop.is_set():
            return End.PAUSED
        deadline, minutes = self._assignment.deadline, self._assignment.study.trial_minutes
        late = deadline is not None and time.time() >= deadline
        late = late or (minutes is not None and self._seconds >= 60 * minutes)
        if late or not self._store.spend_epoch(self._assignment.study.budget.epochs):
            return End.BUDGET if epoch else End.PAUSED
        return None

    def after_epoch(self, epoch: int, metrics: Sequence[EpochMetrics]) -> End | None:
        """Log and report the epoch; return why there is to be no other, or None."""
        self._watch.progress()
        if not self._store.owns(self._claimed, self._lease):  # this machine was asleep, or cut off
            return End.ABANDONED
        self._run.log_epoch(epoch, metrics, self._meter.read())
        mean = EpochMetrics.mean(metrics)
        self._seconds += mean.epoch_seconds
        if not mean.finite:
            return None
        step = epoch + 1  # epochs trained: the resource that pruners count
        if step not in self._reported:
            self._run.send_checkpoint(self._saved, epoch)
            self._store.report(self._trial, mean.validation[self._assignment.study.objective.name], step)
        alone = len(self._assignment.study.objectives) == 1
        return End.PRUNED if alone and self._trial.should_prune() else None
