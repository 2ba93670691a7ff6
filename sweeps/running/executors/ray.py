"""Workers on the nodes of a Ray cluster: an actor holds the CPUs and GPUs of each, and keeps it as a process beside itself.

So a worker is the same process as on one machine: it ends with what keeps it, gives its GPU back when it ends, and its exit code
is known. Nothing here is retried by Ray.
"""

import logging
import math
import os
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from sweeps.running.executors import Work, WorkerExit, WorkerSlot, free_number
from sweeps.running.executors.processes import WorkerProcess, last_line, new_name

LAST_WORDS = 10.0  # seconds that a node has to end a worker when all are to end
LOG_LIMIT = 2**20  # bytes of a worker's log that travel


@dataclass(frozen=True)
class Share:
    """What a worker takes of its node; a GPU may be shared, so `gpus` may be a fraction."""

    cpus: float
    gpus: float

    def fits_into(self, resources: Mapping[str, float]) -> int:
        """Return how many workers fit into a node."""
        rooms = [math.floor(resources.get("CPU", 0) / self.cpus + 1e-9)]
        if self.gpus:
            rooms.append(math.floor(resources.get("GPU", 0) / self.gpus + 1e-9))
        return min(rooms)


class _Keeper:
    """On a node: keeps one worker. It serves several calls at a time, so that it can be told to stop while somebody waits."""

    def __init__(
        self, work: Work, assignment: Any, ready: str | None, name: str, number: int, environment: Mapping[str, str]
    ):
        os.environ.update(environment)
        # What a trial needs when it goes on elsewhere lies in the shared store.
        self._folder = tempfile.TemporaryDirectory(prefix="sweep-")
        os.environ["MLRUNS_DIR"] = self._folder.name
        log = Path(self._folder.name) / "worker.log"
        # When the command is killed, Ray kills this process with its group: the worker is to give its trial back first.
        slot = WorkerSlot(name, log, os.getpid(), number)
        self._worker = WorkerProcess(work, assignment, slot, ready, own_group=True)

    def wait(self) -> tuple[int | None, str]:
        """Wait until the worker has ended; return its exit code and its log."""
        self._worker.wait()
        ended = self._worker.ended()
        log = self._worker.slot.log
        text = log.read_bytes()[-LOG_LIMIT:].decode(errors="replace") if log.exists() else ""
        self._folder.cleanup()
        return ended.exit_code if ended else None, text

    def ask_to_stop(self) -> None:
        self._worker.ask_to_stop()

    def kill(self) -> None:
        self._worker.kill()


@dataclass(frozen=True)
class _Post:
    name: str
    number: int
    log: Path
    keeper: Any
    ready: Any  # what is there when it has found room
    end: Any  # what _Keeper.wait will return


class RayExecutor:
    """Runs `work` in up to `size` workers on the nodes of the cluster that is connected; None: as many as it has room for, now.

    Those that find no room wait for it, so the cluster may grow and shrink meanwhile. `environment`: what workers find in theirs.
    Their logs come to `logs` when they end.
    """

    def __init__(
        self,
        work: Work,
        assignment: Any,
        size: int | None,
        logs: Path,
        share: Share,
        environment: Mapping[str, str],
        ready: str | None = None,
    ):
        self._arguments, self._environment = (ray.put(work), ray.put(assignment), ready), dict(environment)
        self._size, self._logs, self._share = size, logs, share
        self._keeper = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0, max_concurrency=3)(_Keeper)
        self._stopping = False
        self._started = 0
        self._posts: list[_Post] = []

    @property
    def size(self) -> int:
        """How many workers there may be at a time."""
        return self._size if self._size is not None else room(self._share)

    def start_up_to(self, wanted: int) -> None:
        """Start workers until `wanted` of them (at most `size`) are there, or wait for room; no more than that wait."""
        wanted = min(wanted, self.size)
        if len(self._posts) > wanted:
            self._give_up(self._waiting()[: len(self._posts) - wanted])
        while len(self._posts) < wanted and not self._stopping:
            self._started += 1
            number = free_number(post.number for post in self._posts)
            name = new_name()
            keeper = self._keeper.remote(*self._arguments, name, number, self._environment)
            log = self._logs / f"worker-{self._started}.log"
            self._posts.append(_Post(name, number, log, keeper, keeper.__ray_ready__.remote(), keeper.wait.remote()))
            if self._stopping:  # asked while it was being started
                keeper.ask_to_stop.remote()

    def workers(self) -> set[str]:
        """Return the names of the workers that have not been collected yet."""
        return {post.name for post in self._posts}

    def collect_ended(self) -> list[WorkerExit]:
        """Return the workers that ended since the last call, or whose node is gone."""
        if not self._posts:
            return []
        ready, _ = ray.wait([post.end for post in self._posts], num_returns=len(self._posts), timeout=0)
        over = [post for post in self._posts if post.end in ready]
        self._posts = [post for post in self._posts if post not in over]
        return [_ended(post) for post in over]

    def ask_to_stop(self) -> None:
        """Ask every worker to return its trial after the current epoch; start no other."""
        self._stopping = True
        self._give_up(self._waiting())
        for post in self._posts:
            post.keeper.ask_to_stop.remote()

    def kill(self) -> None:
        """End every worker now."""
        self._give_up(self._waiting())
        for post in self._posts:
            post.keeper.kill.remote()
        self._wait_for_ends()
        for post in self._posts:
            ray.kill(post.keeper)
        self._wait_for_ends()

    def _waiting(self) -> list[_Post]:
        """Return those that have found no room yet."""
        if not self._posts:
            return []
        _, waiting = ray.wait([post.ready for post in self._posts], num_returns=len(self._posts), timeout=0)
        return [post for post in self._posts if post.ready in waiting]

    def _give_up(self, posts: list[_Post]) -> None:
        for post in posts:
            ray.kill(post.keeper)
        self._posts = [post for post in self._posts if post not in posts]

    def _wait_for_ends(self) -> None:
        if self._posts:
            ray.wait([post.end for post in self._posts], num_returns=len(self._posts), timeout=LAST_WORDS)


def connect() -> None:
    """Connect to the cluster at RAY_ADDRESS, or to the one of this machine. Raises what Ray does when there is none."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS") or "auto"
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "://" not in address:  # Ray itself tries for many minutes
        socket.create_connection((host, int(port)), timeout=10).close()
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)


def room(share: Share) -> int:
    """Return how many workers the nodes have room for that are alive now, others' included."""
    return sum(share.fits_into(node["Resources"]) for node in ray.nodes() if node["Alive"])


def largest_node() -> dict[str, float]:
    """Return the most CPUs ("CPU") and the most GPUs ("GPU") that a node has."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return {kind: max((node.get(kind, 0.0) for node in alive), default=0.0) for kind in ("CPU", "GPU")}


def _ended(post: _Post) -> WorkerExit:
    try:
        exit_code, text = ray.get(post.end)
    except ray.exceptions.RayError as error:
        if not getattr(error, "actor_init_failed", False):
            return WorkerExit(post.name, None, "", "")
        exit_code, text = 1, str(error)  # the node lacks this project, say
    finally:
        ray.kill(post.keeper)  # its room is free from now on
    with suppress(OSError):  # a full disk here is no fault of the worker
        post.log.parent.mkdir(parents=True, exist_ok=True)
        post.log.write_text(text)
    return WorkerExit(post.name, exit_code, str(post.log), last_line(text))
