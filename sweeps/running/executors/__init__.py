"""Executors: keep n workers alive on one machine or several. They know neither Optuna nor MLflow."""

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class WorkerSlot:
    """Where a worker works. `name`: its own, which no other ever has; `number`: from 0, which no other living one has."""

    name: str
    log: Path
    parent_pid: int
    number: int


@dataclass(frozen=True)
class WorkerExit:
    """A worker that ended; `exit_code` is negative for a signal, None where nobody saw it. `last_line`: of its log."""

    name: str
    exit_code: int | None
    log: str
    last_line: str

    @property
    def how(self) -> str:
        """In words, how it ended."""
        if self.exit_code is None:
            return "is gone with its node"
        if self.exit_code < 0:
            known = {number.value: number.name for number in signal.Signals}
            return f"was killed by {known.get(-self.exit_code, f'signal {-self.exit_code}')}"
        return f"ended with exit code {self.exit_code}"


class StopFlag(Protocol):
    """Set when a worker should return its trial after the current epoch."""

    def is_set(self) -> bool:
        """Whether to stop."""


def free_number(taken: Iterable[int]) -> int:
    """Return the lowest number, from 0, that is not taken."""
    known = set(taken)
    return min(set(range(len(known) + 1)) - known)


Work = Callable[[Any, StopFlag, WorkerSlot], None]  # what a worker does with its assignment, until the flag is set


class Executor(Protocol):
    """What keeps workers at work."""

    @property
    def size(self) -> int:
        """How many workers there may be at a time."""

    def start_up_to(self, wanted: int) -> None:
        """Start workers until `wanted` of them (at most `size`) are there; those beyond that wait for room no longer."""

    def workers(self) -> set[str]:
        """Return the names of the workers that have not been collected yet."""

    def collect_ended(self) -> list[WorkerExit]:
        """Return the workers that ended since the last call."""

    def ask_to_stop(self) -> None:
        """Ask every worker to return its trial after the current epoch; start no other."""

    def kill(self) -> None:
        """End every worker now."""
