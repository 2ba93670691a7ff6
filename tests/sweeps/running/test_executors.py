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
from sweeps.running.executors import Executor, Work, WorkerExit, processes
from sweeps.running.executors.processes import ProcessExecutor
from sweeps.running.worker import gpu_of
from tests.conftest import ROOT, eventually
from tests.sweeps.work import leave, note_place, train

Make = Callable[[int], Executor]


@pytest.fixture(scope="module")
def ray_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNode]:
    """A Ray cluster of one node with room for three workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", f"{Path(__file__).parents[1]}:{ROOT}"
        )  # where the node finds the work of these tests
        with RayNode(tmp_path_factory.mktemp("ray"), cpus=3) as node:
            for name, value in node.driver.items():
                patch.setenv(name, value)
            ray = pytest.importorskip("sweeps.running.executors.ray")  # Ray reads its environment when it is imported
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
            from sweeps.running.executors.ray import RayExecutor, Share

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
    grandparents = [
        psutil.Process(psutil.Process(pid).ppid()).ppid() for pid in places
    ]  # its parent is the fork server
    assert grandparents == [int(parent) for _, parent, *_ in places.values()]
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
    over: list[WorkerExit] = []
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
    from sweeps.running.executors.ray import RayExecutor, Share

    executor = RayExecutor(note_place, UnknownThere(), 1, tmp_path / "logs", Share(1, 0), {})
    executor.start_up_to(1)
    (ended,) = eventually(executor.collect_ended)
    assert ended.exit_code == 1 and "not_on_this_node" in Path(ended.log).read_text()


class UnknownThere:
    """An assignment that a node cannot read, as one that lacks the project."""

    def __reduce__(self) -> tuple:
        return (__import__, ("not_on_this_node",))


READY = "tests.sweeps.work:load_pandas"


def servers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline())]


def loaded(pid: int, library: str) -> bool:
    """Whether a process has a library's compiled part in its memory."""
    return any(library in place.path for place in psutil.Process(pid).memory_maps())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., ProcessExecutor]]:
    """Start a worker from a server that has called a function; it is gone at the end of the test."""
    started: list[ProcessExecutor] = []

    def start(ready: str | None, work: Work = note_place) -> ProcessExecutor:
        started.append(ProcessExecutor(work, tmp_path, 1, tmp_path / "logs", ready))
        started[-1].start_up_to(1)
        return started[-1]

    yield start
    for executor in started:
        executor.kill()


def test_a_worker_has_what_its_server_loaded_and_one_thread(
    run: Callable[..., ProcessExecutor], tmp_path: Path
) -> None:
    run(READY)
    (pid,) = eventually(lambda: noted(tmp_path))
    server = psutil.Process(pid).parent()
    assert server is not None and server.ppid() == os.getpid() and server in servers()
    assert loaded(server.pid, "pandas") and loaded(pid, "pandas")
    assert psutil.Process(pid).num_threads() == 1


def test_workers_find_the_environment_of_the_moment(
    run: Callable[..., ProcessExecutor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = len(servers())
    for greeting in ("good morning", "good night"):
        monkeypatch.setenv("GREETING", greeting.replace(" ", "-"))
        run(None)
    eventually(lambda: len(noted(tmp_path)) == 2 and all(noted(tmp_path).values()))
    assert {place[3] for place in noted(tmp_path).values()} == {"good-morning", "good-night"}
    assert len(servers()) <= known + 1
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # read when Keras is imported, so once in a server
    run(None)
    eventually(lambda: len(noted(tmp_path)) == 3)
    assert len(servers()) >= known + 1


def test_a_server_that_is_ready_has_loaded_what_takes_workers_long() -> None:
    heavy = ("tensorflow", "keras", "optuna", "mlflow.store.tracking.sqlalchemy_store")
    script = (
        "import sys; from sweeps.running import worker\n"
        f"worker.get_ready(); print([name for name in {heavy} if name not in sys.modules])"
    )
    variables = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("ready", ["json:loads", "no_such_module:f"])  # json:loads fails for want of an argument
def test_a_server_that_cannot_get_ready_works_all_the_same(
    ready: str, run: Callable[..., ProcessExecutor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(ready)
    eventually(lambda: any(noted(tmp_path).values()))
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_forked_worker_trains_the_same_weights_as_a_fresh_interpreter(
    run: Callable[..., ProcessExecutor], tmp_path: Path
) -> None:
    executor = run(processes.READY, train)
    fresh = [sys.executable, "-c", "from tests.sweeps.work import digest_of_a_training as train; print(train())"]
    digest = subprocess.run(fresh, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
    eventually(executor.collect_ended)
    assert (tmp_path / "digest").read_text() == digest


def test_a_server_that_is_killed_takes_its_workers_along_and_another_takes_over(
    run: Callable[..., ProcessExecutor], tmp_path: Path
) -> None:
    executor = run("time:time")
    (pid,) = eventually(lambda: noted(tmp_path))
    psutil.Process(pid).parent().kill()  # type: ignore[union-attr]
    (ended,) = eventually(executor.collect_ended)
    assert ended.how == "was killed by SIGKILL"
    eventually(lambda: not alive(pid))
    executor.start_up_to(1)
    eventually(lambda: len(noted(tmp_path)) == 2)


def test_a_server_and_its_workers_end_with_the_command(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys; from sweeps.running.executors.processes import ProcessExecutor\n"
        "from tests.sweeps.work import note_place\n"
        "folder = Path(sys.argv[1]); ProcessExecutor(note_place, folder, 1, folder / 'logs').start_up_to(1); input()"
    )
    command = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, cwd=ROOT)
    (pid,) = eventually(lambda: noted(tmp_path))
    server = psutil.Process(pid).ppid()
    command.kill()
    command.wait()
    eventually(lambda: not alive(server))
    eventually(lambda: not alive(pid))  # its flag is set


@pytest.mark.parametrize(("how", "code"), [("", 0), ("3", 3), ("raised", 1), ("killed", -9)])
def test_exit_codes_are_those_of_the_workers(
    how: str, code: int, run: Callable[..., ProcessExecutor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "how").write_text(how)
    (ended,) = eventually(run(None, leave).collect_ended)
    assert ended.exit_code == code


def test_workers_are_spread_over_the_gpus() -> None:
    assert [gpu_of(number, ["0", "3"]) for number in range(4)] == ["0", "3", "0", "3"]
    assert gpu_of(5, []) is None


def test_a_share_of_a_node_may_be_a_fraction_of_a_gpu() -> None:
    ray = pytest.importorskip("sweeps.running.executors.ray")
    node = {"CPU": 8.0, "GPU": 2.0}
    assert ray.Share(1, 0.25).fits_into(node) == 8
    assert ray.Share(2, 0.25).fits_into(node) == 4
    assert ray.Share(1, 1).fits_into(node) == 2
    assert ray.Share(1, 1).fits_into({"CPU": 8.0}) == 0
    assert ray.Share(0.5, 0).fits_into(node) == 16
