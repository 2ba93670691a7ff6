"""A model of a notebook's cell, as a module: with all that it refers to, and nothing else."""

import functools
import linecache
import math
import sys
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
    """Run a notebook's cell and return what it defined; its lines can be read as those of an IPython cell can."""
    path = str(tmp_path / "cell")
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    module = types.ModuleType("__main__")
    exec(compile(text, path, "exec"), vars(module))
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


HELPERS = """
import functools
WIDTH = 100
def logged(function):
    @functools.wraps(function)
    def call(*values, **named):
        return function(*values, **named)
    return call
"""
SITUATIONS = {  # what a notebook may hold, and what `build()` is there
    "a decorated model": (
        "from helpers import logged\nWIDTH = 3\n@logged\ndef build(*, units=4):\n    return units * WIDTH\n",
        12,
    ),
    "a cached helper": (
        "import functools\n@functools.cache\ndef twice(n):\n    return 2 * n\n"
        "def build(*, units=4):\n    return twice(units)\n",
        8,
    ),
    "a default that changed since": ("W = 4\ndef build(*, units=W):\n    return units\nW = 8\n", 4),
    "a default of a factory": (
        "def make(w):\n    def build(*, units=w):\n        return units\n    return build\nbuild = make(3)\n",
        3,
    ),
    "classes that refer to each other": (
        "class Base:\n    def make(self):\n        return Child()\nclass Child(Base):\n    n = 5\n"
        "def build(*, units=4):\n    return Base().make().n\n",
        5,
    ),
    "a default that is a function": (
        "def c():\n    return 1\ndef a():\n    return c()\ndef b(f=a):\n    return f()\n"
        "def build(*, units=4):\n    return b()\n",
        1,
    ),
    "another name for a class": (
        "class V1:\n    pass\nBlock = V1\ndef make():\n    return V1()\n"
        "def build(*, units=4):\n    return isinstance(make(), Block)\n",
        True,
    ),
    "a submodule": (
        "import wsgiref.util\ndef build(*, units=4):\n    return wsgiref.util.guess_scheme({'HTTPS': 'on'})\n",
        "https",
    ),
    "numbers of every kind": (
        "import numpy as np\nINF, HALF, NAMES = float('inf'), np.float64(0.5), {'b', 'a'}\n"
        "def build(*, units=4):\n    return min(INF, HALF), sorted(NAMES)\n",
        (0.5, ["a", "b"]),
    ),
    "annotations of later": (
        "from __future__ import annotations\ndef build(*, units: int = 4) -> keras.Model:\n    return units\n",
        4,
    ),
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass Size:\n    n: int = 3\n"
        "    def area(self):\n        return self.n ** 2\n"
        "def build(*, units=4):\n    return Size(units).area()\n",
        16,
    ),
    "comment lines at the margin": (
        "def make():\n    k = 2\n    "
        "def build(*, units=4):\n# a note\n        return k * units\n    return build\nbuild = make()\n",
        8,
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_a_notebook_may_hold(situation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, expected = SITUATIONS[situation]
    (tmp_path / "helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "helpers", raising=False)
    build = cells(text, tmp_path)["build"]
    assert rebuilt(build)() == expected == build()
    assert as_module(build) == as_module(build)


def test_a_set_is_written_in_one_order(tmp_path: Path) -> None:
    build = cells("NAMES = {'relu', 'gelu', 'tanh'}\ndef build(*, units=4):\n    return NAMES\n", tmp_path)["build"]
    assert "NAMES = set(['gelu', 'relu', 'tanh'])" in as_module(build)


@pytest.mark.parametrize("model", [functools.partial(print), Path("m.py"), None, len])
def test_what_is_no_function_is_one_line(model: Any) -> None:
    with pytest.raises(NoModel, match="expected a function, or the name of a model, got a "):
        of_function(model, "mine_model", [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import numpy\ntable = numpy.ones(3)\ndef build(*, units=4):\n    return table\n", "uses 'table', a ndarray"),
        (
            "file = open(__import__('os').devnull)\ndef build(*, units=4):\n    return file\n",
            "uses 'file', a TextIOWrapper",
        ),
        ("build = lambda units=4: units\n", "a lambda has no name"),
        (
            "def twice(f):\n    def wrapper(*, units=4):\n        return 2 * f(units=units)\n    return wrapper\n"
            "@twice\ndef build(*, units=4):\n    return units\n",
            "build is hidden by its decorator",
        ),
        (
            "from collections import Counter\nclass Counter(Counter):\n    def x(self): ...\n"
            "def build(*, units=4):\n    return Counter\n",
            "has the name of the class that it is made from",
        ),
        ("def build(*, units=4):\n    display(units)\n", "uses 'display', which is not defined"),
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
