"""The rules of docs/architecture.md: who may import whom, and which library has which door."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import MODELS
from tests.conftest import loaded_by

ROOT = Path(__file__).parent.parent
SOURCES = [path for room in ("models", "pipelines", "sweeps") for path in sorted((ROOT / room).rglob("*.py"))]

ORDER = [  # a room sees those before it; rooms in one set do not see each other
    {"models"},
    {"pipelines"},
    {"sweeps.study"},
    {"sweeps.stores"},
    {"sweeps.running", "sweeps.results"},
    {"sweeps.tasks"},
    {"sweeps.api"},
    {"sweeps.output"},
    {"sweeps.commands"},
    {"sweeps.cli", "sweeps"},
]
DOORS = {  # library -> where it may be imported
    "optuna": ["sweeps/"],
    "optuna_dashboard": ["sweeps/tasks/dashboard.py"],
    "mlflow": ["pipelines/tracking/"],
    "matplotlib": ["pipelines/figures/"],
    "pynvml": ["pipelines/device.py"],
    "plotly": ["sweeps/results/plots.py"],
    "tensorflow": ["pipelines/backend.py"],
    "jax": ["pipelines/backend.py", "pipelines/population.py"],
    "torch": ["pipelines/backend.py"],
    "keras": ["models/", "pipelines/"],
    "click": ["sweeps/cli.py", "sweeps/commands/"],
    "multiprocessing": [],
    "ray": ["sweeps/running/executors/ray.py"],
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module: str) -> str:
    """Return the room of a module: one of the five, or what lies beside them."""
    package, _, rest = module.partition(".")
    inside = rest.partition(".")[0]
    return f"{package}.{inside}" if any(f"{package}.{inside}" in rooms for rooms in ORDER) else package


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = room(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    floor = next(floor for floor, rooms in enumerate(ORDER) if own in rooms)
    allowed = {own}.union(*ORDER[:floor])
    seen = {room(name) for name in imports(path) if name.split(".")[0] in ("models", "pipelines", "sweeps")}
    assert seen - {"sweeps"} <= allowed
    assert not {name.split(".")[0] for name in imports(path)} & {"tests", "benchmarks", "deploy"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_library_has_one_door(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    for library in {name.split(".")[0] for name in imports(path)} & DOORS.keys():
        assert any(place.startswith(door) for door in DOORS[library]), f"{place} imports {library}"


def test_models_import_no_sibling() -> None:
    siblings = set(MODELS.values())
    for path in (ROOT / "models").glob("*.py"):
        assert not siblings & set(imports(path)), path


def test_executors_know_neither_optuna_nor_mlflow_nor_studies() -> None:
    for path in (ROOT / "sweeps/running/executors").glob("*.py"):
        others = {name for name in imports(path) if not name.startswith("sweeps.running.executors")}
        assert not {name.split(".")[0] for name in others} & {"optuna", "mlflow", "pipelines", "models", "sweeps"}


def test_attributes_are_named_in_one_file() -> None:
    named = re.compile(r"""(user_attrs|attributes\(?\)?)(\.get\(|\[)f?["']|(remember\(|\.note\([\w.]+, )f?["']""")
    for path in (ROOT / "sweeps").rglob("*.py"):
        assert not named.search(path.read_text()), path


def test_there_is_no_drawer_for_leftovers() -> None:
    assert not [path for path in SOURCES if path.stem in ("utils", "helpers", "misc", "common")]


@pytest.mark.parametrize("arguments", ["--help", "run --help", "best --help", "ui --help", "studies --help"])
def test_help_loads_no_heavy_library(arguments: str) -> None:
    heavy = "keras", "tensorflow", "mlflow", "optuna", "pandas", "ray"
    assert loaded_by(arguments, heavy) == "[]"


def test_every_promise_names_a_test_that_there_is() -> None:
    known = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    page = (ROOT / "docs/reliability.md").read_text()
    assert set(re.findall(r"`(test_\w+)`", page)) <= known
    promises = [line for line in page.splitlines() if line.startswith("| ") and line.count("|") == 3]
    assert len(promises) > 25
    assert [line for line in promises if "`test_" not in line] == ["| promise | test |", "| --- | --- |"] * 2


def test_reading_a_study_file_loads_neither_keras_nor_mlflow() -> None:
    script = (
        "import sys; from sweeps.study import study_file; study_file.load('lean_cnn')\n"
        "print([m for m in ('keras', 'mlflow', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
