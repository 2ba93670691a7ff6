"""What a running sweep shows: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from pipelines.metrics import Metric
from sweeps.stores.trials import State, StoredTrial, best_first, curve, deleted, first_value
from sweeps.study.study import format_params

ROWS = 12
STYLES = {"running": "cyan", "complete": "green", "pruned": "yellow", "failed": "red"}


@dataclass(frozen=True)
class Snapshot:
    """The trials that hold a ticket, and what the study has spent."""

    trials: Sequence[StoredTrial]
    tickets: int | None
    epochs_spent: int
    objective: Metric
    searches: bool = True  # else the trials are seeds of one configuration, and none is better than another

    def count(self, *states: IntEnum) -> int:
        """Return how many trials are in one of `states`."""
        return sum(trial.state in states for trial in self.trials)

    @property
    def done(self) -> int:
        """Trials that have ended for good."""
        return sum(trial.state.is_finished() for trial in self.trials)

    @property
    def completed(self) -> int:
        """Trials that are complete."""
        return len(self._complete)

    @property
    def best(self) -> StoredTrial | None:
        """The completed trial that is best by validation; None too where nothing is searched."""
        return next(iter(best_first(self._complete, self.objective.direction)), None) if self.searches else None

    @property
    def _complete(self) -> Sequence[StoredTrial]:
        return [trial for trial in self.trials if trial.state == State.COMPLETE]

    def shown(self, value: float) -> str:
        """Return a value of the objective as it is written."""
        return self.objective.text(self.objective.scale * value)

    def line(self) -> str:
        """Everything in one line."""
        best = "no trial complete yet"
        if self.best:
            best = f"best{self.objective.called} {self.shown(first_value(self.best))} (trial {self.best.number})"
        elif self._complete:
            mean = sum(map(first_value, self._complete)) / len(self._complete)
            best = f"mean {self.objective.label} {self.shown(mean)}"
        gone = sum(map(deleted, self.trials))
        failed = f"{self.count(State.FAIL) - gone} failed" + (f", {gone} deleted" if gone else "")
        return (
            f"{self.done} of {self.tickets or '∞'} trials done, {self.count(State.RUNNING)} running, "
            f"{self.count(State.PRUNED)} pruned, {failed}; {best}; {self.epochs_spent} epochs"
        )


class Display:
    """Shows snapshots until closed."""

    def __init__(self, console: Console, epochs_of_trial: int):
        self._console, self._epochs_of_trial = console, epochs_of_trial
        self._began, self._done_before, self._last_line = time.monotonic(), -1, ""
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        if self._live:
            self._live.__exit__(*details)

    def say(self, line: str) -> None:
        """Print one line above the table."""
        with suppress(OSError):  # on a full disk, if that is where the output goes: the sweep is more than its words
            self._console.print(line, markup=False, soft_wrap=True)  # it may quote a log

    def show(self, snapshot: Snapshot) -> None:
        """Show the state of the sweep; without a terminal, print a line when a trial has ended."""
        if self._done_before < 0:
            self._done_before = snapshot.done
        eta = self._eta(snapshot)
        if self._live:
            self._live.update(Group(_table(snapshot, self._epochs_of_trial), _bar(snapshot, eta)))
        elif (line := snapshot.line()).split(";")[0] != self._last_line:
            self._last_line = line.split(";")[0]
            with suppress(OSError):
                self._console.print(f"{line}; {eta}", soft_wrap=True)

    def _eta(self, snapshot: Snapshot) -> str:
        done = snapshot.done - self._done_before
        if done < 1 or snapshot.tickets is None:
            return "ETA unknown yet"
        left = (time.monotonic() - self._began) / done * (snapshot.tickets - snapshot.done)
        return f"ETA {duration(left)}"


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, 1:02:03."""
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d}:{int(seconds) % 60:02d}"


def _table(snapshot: Snapshot, epochs: int) -> Table:
    objective = snapshot.objective
    columns = (f"validation{objective.called}", "searched") if snapshot.searches else (objective.label,)
    table = Table("trial", "state", "epoch", *columns, box=None, pad_edge=False)
    shown = [trial for trial in snapshot.trials if not deleted(trial)]
    started = [trial for trial in shown if trial.state != State.WAITING or curve(trial)]
    for trial in started[-ROWS:]:
        state = {State.FAIL: "failed"}.get(trial.state, trial.state.name.lower())
        reached = curve(trial)
        complete = trial.state == State.COMPLETE
        so_far = [*reached.values()] if snapshot.searches else [*reached.values()][-1:]
        best = first_value(trial) if complete else min(so_far, key=objective.cost, default=None)
        table.add_row(
            f"{trial.number}{' *' if trial == snapshot.best else ''}",
            Text(state, STYLES.get(state, "")),
            f"{len(reached)}/{epochs}",
            snapshot.shown(best) if best is not None else "",
            *([format_params(trial.params)] if snapshot.searches else []),
        )
    return table


def _bar(snapshot: Snapshot, eta: str) -> Progress:
    bar = Progress(BarColumn(40), TextColumn("{task.description}"))
    bar.add_task(f"{snapshot.line()}; {eta}", total=snapshot.tickets, completed=snapshot.done)
    return bar
