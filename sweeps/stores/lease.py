"""Who holds a trial: a worker process and its parent, named so that anyone on their machine can tell whether they live."""

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

HEARTBEAT_INTERVAL = 30  # seconds
GRACE_PERIOD = 180  # seconds without a heartbeat after which a worker counts as lost
MACHINE_ID = Path("/etc/machine-id")
PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one with the same number; `started`: seconds after boot, which no clock change moves."""

    machine: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the process with that number on this machine; one that is gone has started at -1."""
        try:
            return cls(this_machine(), pid, _started(psutil.Process(pid)))
        except psutil.NoSuchProcess:
            return cls(this_machine(), pid, -1.0)

    @property
    def here(self) -> bool:
        """Whether it is of this machine."""
        return self.machine == this_machine()

    @property
    def alive(self) -> bool:
        """Whether it lives, on this machine."""
        try:
            found = psutil.Process(self.pid)
            return self.here and abs(_started(found) - self.started) < 1 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Lease:
    """A worker's hold on a trial. `name`: the worker's, which no other worker ever has."""

    name: str
    worker: Process
    parent: Process

    @classmethod
    def of_this_process(cls, name: str, parent_pid: int) -> Self:
        """Return the lease that this process writes."""
        return cls(name, Process.of(os.getpid()), Process.of(parent_pid))

    def __str__(self) -> str:
        parts = [self.name, self.worker.machine]
        parts += [f"{process.pid}|{process.started:.2f}" for process in (self.worker, self.parent)]
        return "|".join(parts)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the lease written as `text`; None when there is none."""
        try:
            name, machine, pid, started, parent_pid, parent_started = text.split("|")
            return cls(
                name,
                Process(machine, int(pid), float(started)),
                Process(machine, int(parent_pid), float(parent_started)),
            )
        except ValueError:
            return None


@functools.cache
def this_machine() -> str:
    """Return what tells this machine, or container, from every other whose process numbers mean something else.

    Two machines may have one host name, and two containers of one host too.
    """
    identity = MACHINE_ID.read_text().strip()[:8] if MACHINE_ID.exists() else ""
    namespace = PID_NAMESPACE.readlink().name.strip("pid:[]") if PID_NAMESPACE.exists() else ""
    return "/".join(part for part in (socket.gethostname(), identity, namespace) if part).replace("|", "_")


def _started(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())
