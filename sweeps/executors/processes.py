"""Workers as processes of this machine, each in a fresh interpreter, replaced by whoever supervises them."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """A worker that ended; `exit_code` is negative for a signal."""

    pid: int
    exit_code: int
    log: Path

    @property
    def how(self) -> str:
        """In words, how it ended."""
        if self.exit_code < 0:
            known = {number.value: number.name for number in signal.Signals}
            return f"was killed by {known.get(-self.exit_code, f'signal {-self.exit_code}')}"
        return f"ended with exit code {self.exit_code}"


class _Flag:
    """A flag that processes share; without the lock of multiprocessing's Event, which a killed worker would hold for ever."""

    def __init__(self, context: SpawnContext):
        self._value = context.RawValue("b", 0)

    def set(self) -> None:
        self._value.value = 1

    def is_set(self) -> bool:
        return bool(self._value.value)


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    log: Path
    place: int


class ProcessExecutor:
    """Runs `work(assignment, stop, log, parent_pid, place)` in up to `size` processes. Their prints go to files in `logs`.

    `place`: a number from 0 to `size` - 1 that no other living worker has.
    """

    def __init__(self, work: Callable[..., None], assignment: Any, size: int, logs: Path):
        self._context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
        self._work, self._assignment, self._logs = work, assignment, logs
        self.size = size
        self._stop = _Flag(self._context)
        self._started = 0
        self._workers: list[_Worker] = []

    def start_up_to(self, wanted: int) -> None:
        """Start workers until `wanted` of them (at most `size`) are alive."""
        while len(self._workers) < min(wanted, self.size):
            self._started += 1
            log = self._logs / f"worker-{self._started}.log"
            place = min(set(range(self.size)) - {worker.place for worker in self._workers})
            arguments = (self._work, self._assignment, self._stop, log, os.getpid(), place)
            process = self._context.Process(target=_shielded, args=arguments, daemon=True)
            # The worker inherits the mask: a Ctrl-C while it imports its libraries is the parent's to hear, and is not lost.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            self._workers.append(_Worker(process, log, place))

    def alive(self) -> int:
        """Return how many workers have not been collected yet."""
        return len(self._workers)

    def collect_ended(self) -> list[Ended]:
        """Return the workers that ended since the last call."""
        over = [worker for worker in self._workers if worker.process.exitcode is not None]
        self._workers = [worker for worker in self._workers if worker not in over]
        return [Ended(worker.process.pid or 0, worker.process.exitcode or 0, worker.log) for worker in over]

    def ask_to_stop(self) -> None:
        """Ask every worker to return its trial after the current epoch."""
        self._stop.set()

    def kill(self) -> None:
        """End every worker now."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()


def _shielded(work: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    work(*arguments)
