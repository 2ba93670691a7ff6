"""Workers as processes of this machine, forked from a server that has loaded their libraries; the supervisor replaces them."""

import os
import uuid
from pathlib import Path
from typing import Any

from sweeps.running.executors import StopFlag, Work, WorkerExit, WorkerSlot, forkserver, free_number

READY = "sweeps.running.worker:get_ready"  # loads what every worker of a sweep needs; by name, so that this process need not


def prewarm() -> None:
    """Start the server from which workers are forked, so that it is ready when the first is wanted."""
    forkserver.start(READY)


class WorkerProcess:
    """A process that runs `work` as `slot` says, forked from the server that `ready` names; it ends with this one.

    `own_group`: in a process group of its own, so that it has a moment left where this one's whole group is killed.
    """

    def __init__(self, work: Work, assignment: Any, slot: WorkerSlot, ready: str | None, own_group: bool = False):
        self.slot = slot
        self._process = forkserver.start(ready).fork(_work, work, assignment, slot, own_group)

    def ended(self) -> WorkerExit | None:
        """Return how it ended; None while it runs."""
        exit_code = self._process.poll()
        if exit_code is None:
            return None
        log = self.slot.log
        text = log.read_text(errors="replace") if log.exists() else ""
        return WorkerExit(self.slot.name, exit_code, str(log), last_line(text))

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.wait()

    def ask_to_stop(self) -> None:
        """Ask it to return its trial after the current epoch."""
        self._process.ask_to_stop()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()


class ProcessExecutor:
    """Runs `work` in up to `size` processes. Their prints go to files in `logs`.

    `ready`: the function, as "module:function", that loads what every worker needs.
    """

    def __init__(self, work: Work, assignment: Any, size: int, logs: Path, ready: str | None = None):
        self._work, self._assignment, self._logs, self._ready = work, assignment, logs, ready
        self.size = size
        self._stopping = False
        self._started = 0
        self._workers: list[WorkerProcess] = []

    def start_up_to(self, wanted: int) -> None:
        """Start workers until `wanted` of them (at most `size`) are alive."""
        while len(self._workers) < min(wanted, self.size) and not self._stopping:
            self._started += 1
            number = free_number(worker.slot.number for worker in self._workers)
            slot = WorkerSlot(new_name(), self._logs / f"worker-{self._started}.log", os.getpid(), number)
            self._workers.append(WorkerProcess(self._work, self._assignment, slot, self._ready))
            if self._stopping:  # asked while it was being started
                self._workers[-1].ask_to_stop()

    def workers(self) -> set[str]:
        """Return the names of the workers that have not been collected yet."""
        return {worker.slot.name for worker in self._workers}

    def collect_ended(self) -> list[WorkerExit]:
        """Return the workers that ended since the last call."""
        over = {worker.slot.name: ended for worker in self._workers if (ended := worker.ended())}
        self._workers = [worker for worker in self._workers if worker.slot.name not in over]
        return [*over.values()]

    def ask_to_stop(self) -> None:
        """Ask every worker to return its trial after the current epoch; start no other."""
        self._stopping = True
        for worker in self._workers:
            worker.ask_to_stop()

    def kill(self) -> None:
        """End every worker now."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.wait()


def new_name() -> str:
    """Return a name for a worker that no other has."""
    return uuid.uuid4().hex[:12]


def last_line(text: str) -> str:
    """Return the last line that is not empty; nothing when there is none."""
    return (text.strip().splitlines() or [""])[-1]


def _work(work: Work, assignment: Any, slot: WorkerSlot, own_group: bool, *, stop: StopFlag) -> None:
    if own_group:
        os.setpgrp()
    work(assignment, stop, slot)
