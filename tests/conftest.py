"""Every test has outputs of its own, trains on the CPU, and uses real stores and processes."""

import contextlib
import dataclasses
import gc
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

from deploy.loopback import Postgres, Unavailable
from pipelines import paths
from tests import commands
from tests.command_forkserver import blank

ROOT = Path(__file__).parent.parent
settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("unhurried")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, all that is started here would ignore it
IN_MEMORY = Path("/dev/shm")  # a disk takes 20 ms for each commit of SQLite, and a test makes hundreds
if os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))  # where pytest makes its folders

STARTING = {"watch", "sweep", "project", "postgres"}  # fixtures of what trains, or starts commands or servers

TINY = {
    "name": "tiny",
    "model": "lean_cnn",
    "dataset": "mnist-5k",
    "training": {"epochs": 2, "batch_size": 200},
    "search": {
        "filters1": {"int": [2, 4]},
        "filters2": {"choice": [2, 4]},
        "dropout": {"float": [0.0, 0.5]},
        "learning_rate": {"float": [1e-3, 1e-2], "log": True},
    },
    "pruner": "none",
    "budget": {"trials": 2},
    "start": [{"filters1": 4, "filters2": 4, "dropout": 0.1, "learning_rate": 0.005}],
    "targets": [{"accuracy": 99.1, "name": "goal"}],
}


@pytest.hookimpl(tryfirst=True)  # before markers choose
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make whatever trains, or starts a command or a server, slow, unless it is marked as fast."""
    for item in items:
        if STARTING & {*getattr(item, "fixturenames", ())} and not item.get_closest_marker("fast"):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `mlruns/` of the test's own."""
    folder = tmp_path / "mlruns"
    monkeypatch.setenv("MLRUNS_DIR", str(folder))
    for variable in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture(autouse=True)
def little_garbage() -> None:
    """Let Keras, which collects garbage before every model, not look at all that the libraries and other tests have made."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def mnist_dir() -> Path:
    """The folder with the whole of MNIST; without one the test is skipped."""
    if "MNIST_DIR" not in os.environ:
        pytest.skip("needs the full MNIST: set MNIST_DIR")
    return Path(os.environ["MNIST_DIR"])


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server; without one the test is skipped."""
    try:
        server = Postgres(tmp_path_factory.mktemp("postgres"))
    except Unavailable as error:
        pytest.skip(str(error))
    with server:
        yield server


def let_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test images of `mnist-5k` count as those of published accuracies."""
    from pipelines import datasets

    known = datasets.KNOWN["mnist-5k"]
    found = dataclasses.replace(known.load(), comparable=True)
    monkeypatch.setitem(datasets.KNOWN, "mnist-5k", dataclasses.replace(known, comparable=True, load=lambda: found))
    monkeypatch.setattr(datasets, "_known", lambda name: datasets.KNOWN[name].load())


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny study with changes; return its path."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def watch() -> Any:
    """One watch for all studies that run in the tests' own process."""
    from sweeps.running import watchdog

    return watchdog.Watchdog(os.getppid(), timeout=1e9)


@pytest.fixture(scope="session")
def empty_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both databases, made and empty: MLflow takes seconds to make one."""
    from pipelines.tracking import store as tracking
    from sweeps.stores import storage

    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLRUNS_DIR", str(folder))
        tracking.client()
        storage.open_storage(storage.url()).engine.dispose()
    return folder


def copy_stores(made: Path, folder: Path) -> None:
    """Put both databases into `folder`, unless they are there, and the files of the runs: tests write to them."""
    for name in ("mlflow.db", "optuna.db"):
        if not (folder / name).exists():
            shutil.copy(made / name, folder)
    if (made / "artifacts").exists() and not (folder / "artifacts").exists():
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()  # by run id, and the same run now has its files elsewhere
        shutil.copytree(made / "artifacts", folder / "artifacts")
        with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as file, file:
            for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
                file.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (made.as_uri(), folder.as_uri()))


@pytest.fixture
def made_stores(outputs: Path, empty_stores: Path) -> None:
    """Both databases, made and empty, so that a command need not make them."""
    outputs.mkdir()
    copy_stores(empty_stores, outputs)


def run_in_process(
    study: Any,
    watch: Any,
    empty_stores: Path,
    phase: Any = "sweep",
    owner: str | None = None,
    *,
    draws: bool = False,
    drawn: bool = True,
) -> Any:
    """Run all trials of a study in this process, with real stores but no worker to start; return the study's store.

    `draws`: real figures, which take as long as the training; else there is an empty image in place of each. `drawn`: else their
    runs stay owed them.
    """
    from rich.console import Console

    from pipelines import datasets, drawing
    from pipelines.figures.style import Drawn
    from pipelines.tracking import store as tracking
    from sweeps.running import launch, worker
    from sweeps.running.executors.processes import ProcessExecutor
    from sweeps.running.figures import FigureProcesses
    from sweeps.running.resources import ThisMachine
    from sweeps.running.supervisor import Supervisor
    from sweeps.stores.lease import Lease

    copy_stores(empty_stores, paths.make_mlruns())
    store, assignment = launch._prepare(study, datasets.load(study.dataset), ThisMachine(device="cpu"), phase, owner)
    executor, figures = ProcessExecutor(worker.work, assignment, 1, paths.mlruns()), FigureProcesses(paths.mlruns())
    supervisor = Supervisor(store, assignment, executor, figures, Console())
    supervisor.snapshot()  # queues the trials
    lease = Lease.of_this_process("here", os.getppid())
    worker._Worker(assignment, threading.Event(), store, watch, lease).run_trials()
    supervisor.settle()
    with pytest.MonkeyPatch.context() as patch:
        if not draws:
            patch.setattr(Drawn, "draw", blank)
        if drawn:
            for run in tracking.study_runs(assignment.experiment_id, assignment.study_uid, drawing.IS_OWED):
                drawing.draw_if_owed(run.run_id)
    return store


@pytest.fixture
def run_here(watch: Any, empty_stores: Path) -> Callable[..., Any]:
    """`run_in_process`, with this test's own outputs."""
    return lambda study, phase="sweep", owner=None, **figures: run_in_process(
        study, watch, empty_stores, phase, owner, **figures
    )


def loaded_by(command: str, libraries: Sequence[str]) -> str:
    """Return which of these libraries a `sweep` command loads, in a fresh process that it ends well, as a list's text."""
    script = (
        "import sys; from sweeps.cli import main\n"
        f"try: main({command.split()!r})\n"
        "except SystemExit as ended: assert not ended.code\n"
        f"print([name for name in {libraries!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


class Sweep:
    """A `sweep` command in a process group of its own, as a terminal would run it."""

    def __init__(self, *arguments: object, cwd: Path = ROOT):
        self.process = commands.start(*map(str, arguments), cwd=cwd, environment=os.environ)

    def wait(self, timeout: float = 240) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.wait(), out, err

    def lines_until(self, word: str) -> list[str]:
        """Return the lines of stdout up to the one with `word`."""
        lines: list[str] = []
        for line in self.process.stdout or []:
            lines.append(line)
            if word in line:
                break
        return lines

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the whole group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)


@pytest.fixture
def sweep() -> Iterator[Callable[..., Sweep]]:
    """Start `sweep` commands; what still runs at the end of the test is killed."""
    started: list[Sweep] = []

    def start(*arguments: object, cwd: Path = ROOT) -> Sweep:
        started.append(Sweep(*arguments, cwd=cwd))
        return started[-1]

    yield start
    for command in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.process.pid, signal.SIGKILL)
        command.process.communicate()


def eventually(condition: Callable[[], Any], timeout: float = 90) -> Any:
    """Return the first true value of `condition`."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout} s: {condition}")
