"""The figures of runs, drawn beside the training: in processes forked from a server that has loaded no training library."""

import os
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines import device
from sweeps.running.executors import StopFlag, WorkerExit, forkserver
from sweeps.running.logfile import print_to

READY = "sweeps.running.figures:get_ready"  # loads what these processes need; by name, so that this process need not
CORES = 4  # for each process that draws; where there are fewer, one draws all the same
MOST = 4  # such processes
RUNS = 8  # that a process is given at a time
NICE = 10  # while there is training to give way to
TRIES = 3  # of a run's figures, before they are left to the next call
PAUSE = 5.0  # seconds to leave the stores alone after one of them did not answer
LONGEST = 300.0  # seconds that the figures of a run may take; then something hangs


def get_ready() -> None:
    """Load what drawing needs: no training library is part of it."""
    import scipy.stats  # noqa: F401

    from pipelines import drawing  # noqa: F401
    from pipelines.tracking import store

    store.preload()


def draw_all(run_ids: list[str], log: Path, nice: int, *, stop: StopFlag) -> None:
    """Be a process that draws the figures that these runs are owed; prints go to the log. Ends when the command is gone."""
    print_to(log)
    os.nice(nice)
    import threadpoolctl

    from pipelines import drawing

    threadpoolctl.threadpool_limits(1)
    for run_id in run_ids:
        if stop.is_set():
            return
        print(f"run {run_id}: its figures")
        drawing.draw_if_owed(run_id)


@dataclass(frozen=True)
class _Drawing:
    process: forkserver.ForkedProcess
    run_ids: list[str]
    until: float  # on the monotonic clock


class FigureProcesses:
    """Draws the figures of runs, a few runs at a time, in processes that begin when there is something to draw.

    A run keeps its tag until its figures are there, so whatever happens to these processes loses none.
    """

    def __init__(self, log: Path):
        self.log, self.last_failure = log, ""
        self._size = min(MOST, max(1, device.cores() // CORES))
        self._waiting, self._failures = deque[str](), Counter[str]()
        self._drawing: list[_Drawing] = []
        self._paused_until, self._nice = 0.0, NICE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def draw(self, run_ids: Iterable[str]) -> None:
        """Let the figures of these runs be drawn, where they are owed."""
        known = {*self._waiting, *(run_id for each in self._drawing for run_id in each.run_ids)}
        self._waiting.extend(run_id for run_id in run_ids if run_id not in known)

    def look(self) -> int:
        """Take note of what has ended, begin what waits; return how many runs are left."""
        now = time.monotonic()
        for each in list(self._drawing):
            code = each.process.poll()
            if code is not None:
                self._drawing.remove(each)
                if code != 0:
                    self._take_back(each, code)
            elif now > each.until:
                each.process.kill()
        while self._waiting and len(self._drawing) < self._size and now >= self._paused_until:
            self._begin(now)
        return len(self._waiting) + sum(len(each.run_ids) for each in self._drawing)

    @property
    def failed(self) -> int:
        """How many runs are left to the next call, because the processes that drew their figures failed."""
        return sum(times >= TRIES for times in self._failures.values())

    def begin_anew(self) -> None:
        """Try again what failed; the training is over, so processes that begin from now on give way to nothing."""
        self._failures.clear()
        self._paused_until, self._nice = 0.0, 0

    def kill(self) -> None:
        """End every process now."""
        for each in self._drawing:
            each.process.kill()
        for each in self._drawing:
            each.process.wait()
        self._drawing.clear()

    def _begin(self, now: float) -> None:
        """Begin a process for the runs that wait longest; one whose process failed before has one of its own."""
        run_ids = [self._waiting.popleft()]
        while (
            self._waiting
            and len(run_ids) < RUNS
            and not self._failures[run_ids[0]]
            and not self._failures[self._waiting[0]]
        ):
            run_ids.append(self._waiting.popleft())
        process = forkserver.start(READY).fork(draw_all, run_ids, self.log, self._nice)
        self._drawing.append(_Drawing(process, run_ids, now + LONGEST * len(run_ids)))

    def _take_back(self, ended: _Drawing, code: int) -> None:
        """Let the runs of a process that failed wait again, a few times: those whose figures are there are soon done."""
        self.last_failure = WorkerExit("", code, str(self.log), "").how
        if code > 0:  # a store does not answer, or there is no space or memory
            self._paused_until = time.monotonic() + PAUSE
        self._failures.update(ended.run_ids)
        self._waiting.extend(run_id for run_id in ended.run_ids if self._failures[run_id] < TRIES)
