"""Who holds a trial: a worker process and its parent, named so that anyone on their host can tell whether they live."""

import functools
import os
import socket
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one with the same number; `started`: seconds after boot, which no clock change moves."""

    host: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the process with that number on this host; one that is gone has started at -1."""
        try:
            return cls(socket.gethostname(), pid, _started(psutil.Process(pid)))
        except psutil.NoSuchProcess:
            return cls(socket.gethostname(), pid, -1.0)

    @property
    def here(self) -> bool:
        """Whether it is of this host."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether it lives, on this host."""
        try:
            found = psutil.Process(self.pid)
            return self.here and abs(_started(found) - self.started) < 1 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Lease:
    """A worker's hold on a trial."""

    worker: Process
    parent: Process

    @classmethod
    @functools.cache
    def of_this_process(cls, parent_pid: int) -> Self:
        """Return the lease that this process writes."""
        return cls(Process.of(os.getpid()), Process.of(parent_pid))

    def __str__(self) -> str:
        parts = [self.worker.host]
        parts += [f"{process.pid}|{process.started:.2f}" for process in (self.worker, self.parent)]
        return "|".join(parts)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the lease written as `text`; None when there is none."""
        try:
            host, pid, started, parent_pid, parent_started = text.split("|")
            return cls(Process(host, int(pid), float(started)), Process(host, int(parent_pid), float(parent_started)))
        except ValueError:
            return None


def _started(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())
