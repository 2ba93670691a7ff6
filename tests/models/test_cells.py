"""A model of a notebook's cell, as a module: with all that it refers to, and nothing else."""

import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from models.cells import as_module
from models.errors import NoModel
from models.sources import of_function

CELLS = """
import collections
import math
import os.path as places
from math import sqrt as root
WIDTHS = [4, 8]
OTHER = {"unused": object()}
x = object()  # a local name of the same spelling is not this

class Base:
    SCALE = WIDTHS[1]

class Layer(Base):
    def size(self):
        return super().__getattribute__("SCALE") + root(16)

def double(value):
    return value * factor

factor = 2

def build(*, units=4):
    x = double(units) + WIDTHS[0]
    def inner():
        return x + math.floor(Layer().size())
    return [inner() for _ in range(2)], places.basename("a/b"), collections.Counter
"""


def cells(text: str, tmp_path: Path) -> dict[str, Any]:
    """Run what a script has, and return what it defined; its lines can be read, as a notebook's can."""
    path = tmp_path / "script.py"
    path.write_text(text)
    module = types.ModuleType("__main__")
    exec(compile(text, str(path), "exec"), vars(module))
    return vars(module)


def rebuilt(build: Callable[..., Any]) -> Callable[..., Any]:
    there: dict[str, Any] = {"__name__": "kept"}
    exec(as_module(build), there)
    return there["build"]


def test_what_a_model_refers_to_goes_with_it(tmp_path: Path) -> None:
    build = cells(CELLS, tmp_path)["build"]
    text = as_module(build)
    assert rebuilt(build)(units=3) == build(units=3)
    assert "OTHER" not in text and "import os.path as places" not in text.split("class")[1]
    assert as_module(build) == text  # the same each time: its digest tells one model from another


def test_what_a_function_encloses_goes_with_it(tmp_path: Path) -> None:
    text = "def make(width):\n    def build(*, units=4):\n        return units * width\n    return build\nbuild = make(3)\n"
    assert rebuilt(cells(text, tmp_path)["build"])(units=2) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import numpy\ntable = numpy.ones(3)\ndef build(*, units=4):\n    return table\n", "uses 'table', a ndarray"),
        (
            "file = open(__import__('os').devnull)\ndef build(*, units=4):\n    return file\n",
            "uses 'file', a TextIOWrapper",
        ),
        ("build = lambda units=4: units\n", "a lambda has no name"),
        ("def build(*, units=4):\n    return undefined\n", "uses 'undefined', which is not defined"),
    ],
)
def test_what_cannot_be_kept_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    build = cells(text, tmp_path)["build"]
    with pytest.raises(NoModel, match=words):
        as_module(build)


def test_a_function_without_source_is_one_line() -> None:
    there: dict[str, Any] = {"__name__": "__main__"}
    exec("def build(*, units=4):\n    return units\n", there)
    with pytest.raises(NoModel, match="the source of build cannot be read"):
        as_module(there["build"])


def test_a_function_of_a_module_is_that_modules(tmp_path: Path) -> None:
    from tests import tiny_model

    source = of_function(tiny_model.build, "unused", [Path.cwd()])
    assert (source.entry, source.function) == ("tests.tiny_model", "build") and "tests.tiny_model" in source.files
    build = cells("import math\ndef build(*, units=4):\n    return math.pi * units\n", tmp_path)["build"]
    source = of_function(build, "mine_model", [tmp_path])
    models.adopt(source)
    assert models.load("mine_model").build(units=1) == math.pi and np.isclose(build(units=1), math.pi)
