"""Workers as processes of this machine, each in a fresh interpreter, replaced by whoever supervises them."""

import multiprocessing
import os
import pkgutil
import signal
import uuid
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

from sweeps.executors import Ended, Place, Work, free_number


class _Flag:
    """A flag that processes share; without the lock of multiprocessing's Event, which a killed worker would hold for ever."""

    def __init__(self, context: SpawnContext):
        self._value = context.RawValue("b", 0)

    def set(self) -> None:
        self._value.value = 1

    def is_set(self) -> bool:
        return bool(self._value.value)


class _Recruit:
    """A process that calls `ready`, if given, and then waits to be told its work. It ends with this one."""

    def __init__(self, ready: str | None = None):
        context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
        self.stop = _Flag(context)
        theirs, self._orders = context.Pipe(duplex=False)
        self.process = context.Process(target=_serve, args=(theirs, self.stop, ready), daemon=True)
        # The worker inherits the mask: a Ctrl-C while it imports its libraries is the parent's to hear, and is not lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()

    def tell(self, work: Work, assignment: Any, place: Place, own_group: bool) -> None:
        """Set it to work."""
        with suppress(BrokenPipeError):  # it has died, and its exit code says how
            self._orders.send((work, assignment, place, own_group))
        self._orders.close()

    def dismiss(self) -> None:
        """End it, there being nothing to do for it."""
        self.process.kill()
        self.process.join()


_recruits: list[_Recruit] = []


def recruit(ready: str) -> Callable[[], None]:
    """Let the first worker of this process get ready by itself; call what is returned when no worker is wanted any more.

    `ready`: a function by name, `module:function`, so that only the worker need load its module.
    """
    _recruits.append(_Recruit(ready))
    return _dismiss


def _dismiss() -> None:
    while _recruits:
        _recruits.pop().dismiss()


class WorkerProcess:
    """A process that runs `work` at `place`, the one that was recruited if there is one; it ends with this one.

    `own_group`: in a process group of its own, so that it has a moment left where this one's whole group is killed.
    """

    def __init__(self, work: Work, assignment: Any, place: Place, own_group: bool = False):
        recruit = _recruits.pop() if _recruits else _Recruit()
        recruit.tell(work, assignment, place, own_group)
        self.place, self._stop, self._process = place, recruit.stop, recruit.process

    def ended(self) -> Ended | None:
        """Return how it ended; None while it runs."""
        if self._process.exitcode is None:
            return None
        log = self.place.log
        text = log.read_text(errors="replace") if log.exists() else ""
        return Ended(self.place.name, self._process.exitcode, str(log), last_line(text))

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.join()

    def ask_to_stop(self) -> None:
        """Ask it to return its trial after the current epoch."""
        self._stop.set()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()


class ProcessExecutor:
    """Runs `work` in up to `size` processes. Their prints go to files in `logs`."""

    def __init__(self, work: Work, assignment: Any, size: int, logs: Path):
        self._work, self._assignment, self._logs = work, assignment, logs
        self.size = size
        self._stopping = False
        self._started = 0
        self._workers: list[WorkerProcess] = []

    def start_up_to(self, wanted: int) -> None:
        """Start workers until `wanted` of them (at most `size`) are alive."""
        while len(self._workers) < min(wanted, self.size) and not self._stopping:
            self._started += 1
            number = free_number(worker.place.number for worker in self._workers)
            place = Place(new_name(), self._logs / f"worker-{self._started}.log", os.getpid(), number)
            self._workers.append(WorkerProcess(self._work, self._assignment, place))
            if self._stopping:  # asked while it was being started
                self._workers[-1].ask_to_stop()

    def workers(self) -> set[str]:
        """Return the names of the workers that have not been collected yet."""
        return {worker.place.name for worker in self._workers}

    def collect_ended(self) -> list[Ended]:
        """Return the workers that ended since the last call."""
        over = {worker.place.name: ended for worker in self._workers if (ended := worker.ended())}
        self._workers = [worker for worker in self._workers if worker.place.name not in over]
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


def _serve(orders: "Connection[Any, Any]", stop: _Flag, ready: str | None) -> None:
    if ready is not None:
        with suppress(Exception):  # what is wrong is wrong at work too, where there is a log to say so
            pkgutil.resolve_name(ready)()
    try:
        work, assignment, place, own_group = orders.recv()
    except EOFError:  # its parent is gone
        return
    if own_group:
        os.setpgrp()
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent decides what they mean
        signal.signal(number, signal.SIG_IGN)
    work(assignment, stop, place)
