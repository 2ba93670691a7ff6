"""A tiny study and what was confirmed of it, trained once for all tests that read it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from sweeps.running import launch
from sweeps.running.resources import ThisMachine
from sweeps.stores.store import Store
from sweeps.study import study_file
from sweeps.tasks import confirm
from tests.conftest import TINY, copy_stores, run_in_process

QUICK = {"training": {"epochs": 1, "batch_size": 200}, "budget": {"trials": 4}}


def launch_here(patch: pytest.MonkeyPatch, watch: Any, empty_stores: Path) -> list[str]:
    """Let what is launched train in this process; returns what was."""
    launched: list[str] = []

    def run(study: Any, _resources: Any, _console: Console, phase: Any, *, owner: str | None) -> Any:
        launched.append(f"{study.name} {study.budget.trials}")
        run_in_process(study, watch, empty_stores, phase, owner)
        return launch.Result(None, False, "random")

    patch.setattr(launch, "run", run)
    return launched


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` fills, once for all processes of the tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLRUNS_DIR", str(folder))
                make(folder)
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def swept(watch: Any, empty_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a study of four trials."""
    study = study_file.check(TINY | QUICK, "test")
    return once(tmp_path_factory, "swept", lambda _: run_in_process(study, watch, empty_stores, draws=True))


@pytest.fixture(scope="session")
def twice(swept: Path, watch: Any, empty_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of that study and three seeds of its two best."""

    def make(folder: Path) -> None:
        copy_stores(swept, folder)
        with pytest.MonkeyPatch.context() as patch:
            launch_here(patch, watch, empty_stores)
            confirm.run("tiny", 2, 3, ThisMachine(device="cpu"), Console(quiet=True))

    return once(tmp_path_factory, "twice", make)


@pytest.fixture
def study(swept: Path, outputs: Path) -> Store:
    """A copy of that study, as this test's own outputs."""
    outputs.mkdir()
    copy_stores(swept, outputs)
    return Store("tiny")


@pytest.fixture
def seeded(twice: Path, outputs: Path) -> Store:
    """A copy of that study and its seeds, as this test's own outputs."""
    outputs.mkdir()
    copy_stores(twice, outputs)
    return Store("tiny")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, watch: Any, empty_stores: Path) -> list[str]:
    """`launch_here`, for this test."""
    return launch_here(monkeypatch, watch, empty_stores)
