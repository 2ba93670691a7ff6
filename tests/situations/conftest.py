"""A person's own project: a folder with their files, and commands typed there."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from tests import commands
from tests.conftest import ROOT
from tests.sweeps.conftest import here, seeded, study, swept, twice  # noqa: F401 - fixtures

NET = """
def build(*, units: int = 4):
    import keras
    from keras import layers
    shape = [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(units), layers.Dense(10, activation="softmax")]
    return keras.Sequential(shape)
"""
SHORT = {"dataset": "mnist-5k", "training": {"epochs": 1, "batch_size": 500}, "search": {"units": {"int": [2, 8]}}}
SWEEP = str(Path(sys.executable).parent / "sweep")


class Project:
    """A folder, and what is typed there.

    `python`: the interpreter whose packages are used; `fresh`: commands import them, as always outside of tests.
    """

    def __init__(self, folder: Path, python: str = sys.executable, *, fresh: bool = False):
        self.folder, self.python, self._fresh = folder, python, fresh
        folder.mkdir(exist_ok=True)

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)

    def study(self, name: str = "s.yaml", **content: object) -> None:
        own = {"name": "mine", "model": "net", **SHORT, "budget": {"trials": 1}}
        self.write({name: yaml.safe_dump(own | content, sort_keys=False)})

    def type(self, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the folder; MLRUNS_DIR is not set, unless `environment` does."""
        return subprocess.run(
            command, cwd=self.folder, env=self._environment() | environment, capture_output=True, text=True, timeout=400
        )

    def sweep(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        surroundings = self._environment() | environment
        typed = [str(Path(self.python).parent / "sweep")] if self._fresh else None
        process = commands.start(*arguments, cwd=self.folder, environment=surroundings, typed=typed)
        out, err = process.communicate(timeout=400)
        return subprocess.CompletedProcess(["sweep", *arguments], process.wait(), out, err)

    @staticmethod
    def _environment() -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if key not in ("MLRUNS_DIR", "PYTHONPATH")}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Project]:
    """Make a project whose interpreter has this package from a wheel, and its libraries from the present environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves files where it builds
    source.mkdir()
    for name in ("models", "pipelines", "sweeps"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = str(folder / "venv/bin/python")
    (made,) = folder.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(made)], check=True)
    # Files that lead to further folders are not read in a folder added so: the editable install is not seen.
    (next((folder / "venv").rglob("site-packages")) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return lambda place: Project(place, python, fresh=True)
