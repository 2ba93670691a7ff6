"""Executors keep workers alive and know nothing of trials."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sweeps.executors.processes import ProcessExecutor
from sweeps.worker import gpu_of
from tests.conftest import eventually


def note_place(folder: Path, stop: Any, log: Path, parent_pid: int, place: int) -> None:
    """A worker that notes its place and waits."""
    (folder / f"{os.getpid()}").write_text(f"{place} {parent_pid}")
    while not stop.is_set():
        time.sleep(0.05)


@pytest.mark.parametrize("executor_of", [ProcessExecutor])
def test_every_living_worker_has_a_place_of_its_own(executor_of: type[ProcessExecutor], tmp_path: Path) -> None:
    executor = executor_of(note_place, tmp_path, 3, tmp_path / "logs")
    try:
        executor.start_up_to(2)
        executor.start_up_to(9)  # no more than its size
        assert executor.alive() == 3
        eventually(lambda: len(list(tmp_path.glob("[0-9]*"))) == 3)
        places = {int(path.name): path.read_text().split() for path in tmp_path.glob("[0-9]*")}
        assert sorted(place for place, _ in places.values()) == ["0", "1", "2"]
        assert {parent for _, parent in places.values()} == {str(os.getpid())}
        gone = next(pid for pid, (place, _) in places.items() if place == "2")
        os.kill(gone, signal.SIGKILL)
        (ended,) = eventually(executor.collect_ended)
        assert ended.pid == gone and ended.how == "was killed by SIGKILL"
        executor.start_up_to(3)
        eventually(lambda: len(list(tmp_path.glob("[0-9]*"))) == 4)
        new = next(path for path in tmp_path.glob("[0-9]*") if int(path.name) not in places)
        assert eventually(new.read_text).split()[0] == "2"
        executor.ask_to_stop()
        over: list[Any] = []
        eventually(lambda: over.extend(executor.collect_ended()) or len(over) == 3)
        assert [worker.exit_code for worker in over] == [0, 0, 0]
    finally:
        executor.kill()
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]


def test_workers_are_spread_over_the_gpus() -> None:
    assert [gpu_of(place, ["0", "3"]) for place in range(4)] == ["0", "3", "0", "3"]
    assert gpu_of(5, []) is None
