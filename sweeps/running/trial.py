"""Trials between their epochs: are they still ours, is there budget, does the pruner stop them; and what an epoch is logged as.

Trials of a population ask all at once, and are answered by one transaction of each kind.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optuna.trial import FrozenTrial

from pipelines.tracking.run import TrackedRun, send_epochs
from pipelines.train import AfterEpoch, BeforeEpoch, End, EpochMetrics, Question
from sweeps.running.assignment import Assignment
from sweeps.running.executors import StopFlag
from sweeps.running.watchdog import Watchdog
from sweeps.stores.lease import Lease
from sweeps.stores.store import Store, curve
from sweeps.study import pruners

MEMBERS = "system/population_members"  # metric of an epoch


@dataclass
class Trial:
    """A trial under way. `utilisation` tells how busy process and GPU were since it was called last."""

    claimed: FrozenTrial
    run: TrackedRun
    saved: Path
    utilisation: Callable[[], Mapping[str, float]]
    seconds: float = 0.0  # of its own epochs, those before a resumption included
    reported: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.reported = set(curve(self.claimed))

    @property
    def number(self) -> int:
        """Its ticket."""
        return self.claimed.number


class Control:
    """Answers what the trials of one worker ask."""

    def __init__(self, assignment: Assignment, stop: StopFlag, store: Store, lease: Lease, watch: Watchdog):
        self._deadline, self._study, self._stop = assignment.deadline, assignment.study, stop
        self._store, self._lease, self._watch = store, lease, watch
        self._pruner = pruners.pruner(self._study) if len(self._study.objectives) == 1 else None

    def answer(self, asking: Sequence[tuple[Trial, Question]]) -> list[End | None]:
        """Answer each trial's question, in their order."""
        self._watch.progress()
        stopping = self._store.held([trial.claimed for trial, _ in asking], self._lease)
        # Of those that are not held any more, this machine was asleep, or cut off.
        answers: dict[int, End | None] = {
            trial.number: None if trial.number in stopping else End.ABANDONED for trial, _ in asking
        }
        ours = [(trial, question) for trial, question in asking if trial.number in stopping]
        answers |= self._after([(t, question) for t, question in ours if isinstance(question, AfterEpoch)])
        answers |= self._before(
            [(t, question.epoch) for t, question in ours if isinstance(question, BeforeEpoch)], stopping
        )
        return [answers[trial.number] for trial, _ in asking]

    def _before(self, asking: Sequence[tuple[Trial, int]], stopping: Mapping[int, bool]) -> dict[int, End | None]:
        """Count the epochs that may begin; return why the others may not. Where too few are left, the lowest numbers get them."""
        answers: dict[int, End | None] = {}
        wanting: list[tuple[int, int]] = []
        for trial, epoch in asking:
            if stopping[trial.number]:
                answers[trial.number] = End.STOPPED
            elif self._stop.is_set():
                answers[trial.number] = End.PAUSED
            elif self._late(trial):
                answers[trial.number] = _used_up(epoch)
            else:
                wanting.append((trial.number, epoch))
        granted = self._store.spend_epochs(len(wanting), self._study.budget.epochs)
        return answers | {number: _used_up(epoch) for number, epoch in sorted(wanting)[granted:]}

    def _late(self, trial: Trial) -> bool:
        minutes = self._study.trial_minutes
        late = self._deadline is not None and time.time() >= self._deadline
        return late or (minutes is not None and trial.seconds >= 60 * minutes)

    def _after(self, asking: Sequence[tuple[Trial, AfterEpoch]]) -> dict[int, End | None]:
        """Log and report the epochs; return which trials are to be pruned."""
        if not asking:
            return {}
        reports: list[tuple[FrozenTrial, int, float]] = []
        finite: list[FrozenTrial] = []
        for trial, question in asking:
            together = {MEMBERS: float(len(asking))} if self._study.population > 1 else {}
            trial.run.log_epoch(question.epoch, question.metrics, {**trial.utilisation(), **together})
            mean, step = EpochMetrics.mean(question.metrics), question.epoch + 1  # epochs trained: what pruners count
            trial.seconds += mean.epoch_seconds
            if mean.finite:
                finite.append(trial.claimed)
                if step not in trial.reported:
                    trial.run.send_checkpoint(trial.saved, question.epoch)
                    reports.append((trial.claimed, step, mean.validation[self._study.objective.name]))
        send_epochs([trial.run for trial, _ in asking])
        self._store.report(reports)
        pruned = self._store.to_prune(finite, self._pruner) if self._pruner and finite else set[int]()
        return dict.fromkeys(pruned, End.PRUNED)


def _used_up(epoch: int) -> End:
    """Return how a trial ends for which there is no budget: one that has begun counts, any other is given back."""
    return End.BUDGET if epoch else End.PAUSED
