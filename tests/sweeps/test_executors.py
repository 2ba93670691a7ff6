"""Executors keep workers alive and know nothing of trials: one contract for all of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.loopback import RayNode
from sweeps.executors import Ended, Executor, Place, StopFlag, processes
from sweeps.executors.processes import ProcessExecutor
from sweeps.worker import gpu_of
from tests.conftest import ROOT, eventually

Make = Callable[[int], Executor]


def note_place(folder: Path, stop: StopFlag, place: Place) -> None:
    """A worker that notes its place and waits."""
    place.log.parent.mkdir(exist_ok=True)
    place.log.write_text("first\nlast words\n")
    (folder / f"{os.getpid()}").write_text(
        f"{place.number} {place.parent_pid} {place.name} {os.environ.get('GREETING')}"
    )
    while not stop.is_set():
        time.sleep(0.05)


@pytest.fixture(scope="module")
def ray_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNode]:
    """A Ray cluster of one node with room for three workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{ROOT}")  # where the node finds the work of these tests
        with RayNode(tmp_path_factory.mktemp("ray"), cpus=3) as node:
            for name, value in node.driver.items():
                patch.setenv(name, value)
            ray = pytest.importorskip("sweeps.executors.ray")  # Ray reads its environment when it is imported
            ray.connect()
            yield node
            ray.ray.shutdown()


@pytest.fixture(params=["processes", pytest.param("ray", marks=pytest.mark.slow)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make an executor of each kind; its workers are gone at the end of the test."""
    made: list[Executor] = []

    def start(size: int) -> Executor:
        if request.param == "processes":
            made.append(ProcessExecutor(note_place, tmp_path, size, tmp_path / "logs"))
        else:
            request.getfixturevalue("ray_node")
            from sweeps.executors.ray import RayExecutor, Share

            made.append(RayExecutor(note_place, tmp_path, size, tmp_path / "logs", Share(1, 0), {"GREETING": "hello"}))
        return made[-1]

    yield start
    for executor in made:
        executor.kill()
        executor.collect_ended()


def noted(folder: Path) -> dict[int, list[str]]:
    """Return what each worker noted, by its process number."""
    return {int(path.name): path.read_text().split() for path in folder.glob("[0-9]*")}


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_every_living_worker_has_a_place_and_a_name_of_its_own(make: Make, tmp_path: Path) -> None:
    executor = make(3)
    executor.start_up_to(2)
    executor.start_up_to(9)  # no more than its size
    assert len(executor.workers()) == 3
    eventually(lambda: len(noted(tmp_path)) == 3 and all(noted(tmp_path).values()))
    places = noted(tmp_path)
    assert sorted(number for number, *_ in places.values()) == ["0", "1", "2"]
    assert {name for _, _, name, _ in places.values()} == executor.workers()
    assert all(psutil.Process(pid).ppid() == int(parent) for pid, (_, parent, *_) in places.items())
    gone, (_, _, name, _) = next((pid, place) for pid, place in places.items() if place[0] == "1")
    os.kill(gone, signal.SIGKILL)
    (ended,) = eventually(executor.collect_ended)
    assert (ended.name, ended.how, ended.last_line) == (name, "was killed by SIGKILL", "last words")
    assert Path(ended.log).read_text().startswith("first")
    assert len(executor.workers()) == 2 and executor.collect_ended() == []
    executor.start_up_to(3)
    eventually(lambda: len(noted(tmp_path)) == 4 and all(noted(tmp_path).values()))
    assert next(place for pid, place in noted(tmp_path).items() if pid not in places)[0] == "1"
    executor.ask_to_stop()
    over: list[Ended] = []
    eventually(lambda: over.extend(executor.collect_ended()) or len(over) == 3)
    assert [worker.exit_code for worker in over] == [0, 0, 0]


def test_those_that_are_killed_are_collected_and_gone(make: Make, tmp_path: Path) -> None:
    executor = make(2)
    executor.start_up_to(2)
    eventually(lambda: len(noted(tmp_path)) == 2)
    names = executor.workers()
    executor.kill()
    assert {ended.name for ended in executor.collect_ended()} == names
    eventually(lambda: not any(alive(pid) for pid in noted(tmp_path)))


def test_a_worker_ends_with_what_keeps_it_and_its_place_is_free_again(make: Make, tmp_path: Path) -> None:
    executor = make(1)
    if isinstance(executor, ProcessExecutor):
        pytest.skip("what keeps it is this process")
    executor.start_up_to(1)
    eventually(lambda: any(noted(tmp_path).values()))
    (keeper,) = (int(parent) for _, parent, *_ in noted(tmp_path).values())
    assert [greeting for *_, greeting in noted(tmp_path).values()] == ["hello"]
    os.kill(keeper, signal.SIGKILL)
    (ended,) = eventually(executor.collect_ended)
    assert ended.exit_code is None and ended.how == "is gone with its node"
    executor.start_up_to(1)
    eventually(lambda: len(noted(tmp_path)) == 2)


def test_workers_that_find_no_room_wait_for_it(make: Make, tmp_path: Path) -> None:
    executor = make(4)  # the node has room for three
    if isinstance(executor, ProcessExecutor):
        pytest.skip("a machine has room for any number")
    executor.start_up_to(4)
    eventually(lambda: len(noted(tmp_path)) == 3)
    time.sleep(1)
    assert len(noted(tmp_path)) == 3 and len(executor.workers()) == 4
    os.kill(next(iter(noted(tmp_path))), signal.SIGKILL)
    eventually(executor.collect_ended)
    eventually(lambda: len(noted(tmp_path)) == 4)


@pytest.mark.slow
def test_a_node_that_cannot_start_a_worker_says_why(ray_node: RayNode, tmp_path: Path) -> None:
    from sweeps.executors.ray import RayExecutor, Share

    executor = RayExecutor(note_place, UnknownThere(), 1, tmp_path / "logs", Share(1, 0), {})
    executor.start_up_to(1)
    (ended,) = eventually(executor.collect_ended)
    assert ended.exit_code == 1 and "not_on_this_node" in Path(ended.log).read_text()


class UnknownThere:
    """An assignment that a node cannot read, as one that lacks the project."""

    def __reduce__(self) -> tuple:
        return (__import__, ("not_on_this_node",))


def load_pandas() -> None:
    """What a recruit does to get ready."""
    import pandas  # noqa: F401


def children() -> set[int]:
    """Return the processes of this one that run Python code of their own."""
    return {child.pid for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())}


def loaded(pid: int, library: str) -> bool:
    """Whether a process has a library's compiled part in its memory."""
    return any(library in place.path for place in psutil.Process(pid).memory_maps())


def test_a_recruit_loads_its_libraries_before_there_is_work_and_is_the_first_worker(tmp_path: Path) -> None:
    before = children()
    dismiss = processes.recruit("tests.sweeps.test_executors:load_pandas")
    (recruited,) = eventually(lambda: children() - before)  # it shows its own command line in a moment
    eventually(lambda: loaded(recruited, "pandas"))
    executor = ProcessExecutor(note_place, tmp_path, 2, tmp_path / "logs")
    executor.start_up_to(2)
    try:
        eventually(lambda: len(noted(tmp_path)) == 2 and all(noted(tmp_path).values()))
        dismiss()  # those at work are none of its business
        assert recruited in noted(tmp_path) and loaded(recruited, "pandas")
        assert all(map(alive, noted(tmp_path)))
    finally:
        executor.kill()


def test_a_recruit_that_is_not_wanted_is_gone() -> None:
    before = children()
    dismiss = processes.recruit("tests.sweeps.test_executors:load_pandas")
    (recruited,) = eventually(lambda: children() - before)  # it shows its own command line in a moment
    dismiss()
    assert not alive(recruited)


def test_a_recruit_that_cannot_get_ready_works_all_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    processes.recruit("json:loads")  # fails for want of an argument
    executor = ProcessExecutor(note_place, tmp_path, 1, tmp_path / "logs")
    executor.start_up_to(1)
    eventually(lambda: any(noted(tmp_path).values()))
    executor.kill()
    assert capfd.readouterr().err == ""


def test_a_recruit_that_died_is_a_worker_that_ended(tmp_path: Path) -> None:
    before = children()
    processes.recruit("time:time")
    (recruited,) = eventually(lambda: children() - before)  # it shows its own command line in a moment
    os.kill(recruited, signal.SIGKILL)
    eventually(lambda: not alive(recruited))
    executor = ProcessExecutor(note_place, tmp_path, 1, tmp_path / "logs")
    executor.start_up_to(1)
    (ended,) = eventually(executor.collect_ended)
    assert ended.how == "was killed by SIGKILL"


def test_a_recruit_ends_with_its_parent(tmp_path: Path) -> None:
    code = "from sweeps.executors.processes import recruit; recruit('time:time'); print(flush=True); input()"
    command = [sys.executable, "-c", code]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    parent.stdout.readline()
    recruited = psutil.Process(parent.pid).children()[-1].pid
    parent.kill()
    parent.wait()
    eventually(lambda: not alive(recruited))


def test_workers_are_spread_over_the_gpus() -> None:
    assert [gpu_of(number, ["0", "3"]) for number in range(4)] == ["0", "3", "0", "3"]
    assert gpu_of(5, []) is None


def test_a_share_of_a_node_may_be_a_fraction_of_a_gpu() -> None:
    ray = pytest.importorskip("sweeps.executors.ray")
    node = {"CPU": 8.0, "GPU": 2.0}
    assert ray.Share(1, 0.25).fits_into(node) == 8
    assert ray.Share(2, 0.25).fits_into(node) == 4
    assert ray.Share(1, 1).fits_into(node) == 2
    assert ray.Share(1, 1).fits_into({"CPU": 8.0}) == 0
    assert ray.Share(0.5, 0).fits_into(node) == 16
