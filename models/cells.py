"""A model defined in a notebook cell or in a script: written as a module of its own, with all that it refers to.

What `build` uses is found by Python's own account of scopes, in functions and classes of the same place too, and theirs in turn.
Modules become imports, what other modules define is imported from there, and plain constants are written as they are. Nothing is
pickled. What cannot be written (an array, an open file) raises NoModel.
"""

import ast
import builtins
import inspect
import linecache
import symtable
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

from models.errors import NoModel


def as_module(function: Callable[..., Any]) -> str:
    """Return the text of a module that defines `function` and all that it refers to. Raises NoModel."""
    return _Writer(function).text()


class _Writer:
    def __init__(self, function: Callable[..., Any]):
        self._entry, self._home = function, function.__module__
        self._imports: list[str] = []
        self._constants: list[str] = []
        self._definitions: list[str] = []
        self._known: dict[str, Any] = {}

    def text(self) -> str:
        self._define(self._entry.__name__, self._entry, {})
        parts = [sorted(self._imports), self._constants, *([text] for text in self._definitions)]
        return "\n\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"

    def _refer(self, name: str, value: Any, user: str, there: Mapping[str, Any]) -> None:
        """See to it that `name` means `value` in the module; `user`: what uses it, `there`: what names mean around it."""
        if name in self._known:
            if self._known[name] is not value:
                raise NoModel(f"{user} uses {name!r}, which means two things here: give one of them another name")
            return
        home, own_name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if isinstance(value, ModuleType):
            self._known[name] = value
            self._imports.append(f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else ""))
        elif isinstance(value, FunctionType | type) and home == self._home:
            self._define(name, value, there)
        elif isinstance(own_name, str) and isinstance(home, str) and "." not in own_name and own_name.isidentifier():
            self._known[name] = value
            self._imports.append(f"from {home} import {own_name}" + (f" as {name}" if name != own_name else ""))
        elif _is_plain(value):
            self._known[name] = value
            self._constants.append(f"{name} = {value!r}")
        else:
            raise NoModel(
                f"{user} uses {name!r}, a {type(value).__name__}, which cannot be kept with the study: make it inside {user}, or "
                "make it a number, a text, or a list of such"
            )

    def _define(self, name: str, value: Any, there: Mapping[str, Any]) -> None:
        self._known[name] = value
        text, there = _source_of(value), {**there, **_namespace(value)}
        for used, meant in _used(value, text, there):
            self._refer(used, meant, value.__name__, there)
        self._definitions.append(text.rstrip() + (f"\n\n\n{name} = {value.__name__}" if name != value.__name__ else ""))


def _source_of(value: Any) -> str:
    if value.__name__ == "<lambda>":
        raise NoModel("a lambda has no name to be kept by: define it with def")
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError) as error:  # of a class in a notebook, too: its module's file is no cell's
        if isinstance(value, type) and (found := _class_in_a_cell(value)):
            return found
        raise NoModel(
            f"the source of {value.__name__} cannot be read ({error}): define it in a file, a script or a notebook's cell"
        ) from error


def _class_in_a_cell(value: type) -> str | None:
    """Return the source of a class: in the file of one of its methods, else in the last cell that defines one of its name."""
    own = [function.__code__.co_filename for function in vars(value).values() if inspect.isfunction(function)]
    for file in own[:1] or [*reversed(linecache.cache)]:
        text = "".join(linecache.getlines(file))
        with suppress(SyntaxError, ValueError):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef) and node.name == value.__name__:
                    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno]))
    return None


def _used(value: Any, text: str, there: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names from outside that a function or class uses, with what they mean there."""
    for name in dict.fromkeys(_from_outside(symtable.symtable(text, "<model>", "exec"))):
        if name in there:
            yield name, there[name]
        elif not hasattr(builtins, name):
            raise NoModel(f"{value.__name__} uses {name!r}, which is not defined")


def _from_outside(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        outside = symbol.is_global() or table.get_type() == "module"
        if symbol.is_referenced() and outside and not (table.get_type() == "module" and symbol.is_assigned()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _from_outside(child)


def _namespace(value: Any) -> Mapping[str, Any]:
    """Return what names mean where a function, or a class by its methods, was defined; what a function encloses goes first."""
    functions = (
        [value] if isinstance(value, FunctionType) else [f for f in vars(value).values() if inspect.isfunction(f)]
    )
    found: dict[str, Any] = {}
    for function in functions:
        enclosed = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
        found |= {**function.__globals__, **{key: each for key, each in enclosed.items() if key != "__class__"}}
    return found


def _is_plain(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
