"""A model defined in a notebook cell or in a script: written as a module of its own, with all that it refers to.

What `build` uses is found by Python's own account of scopes, in functions and classes of the same place too, and theirs in turn.
Modules become imports, what other modules define is imported from there, and plain constants are written as they are. Nothing is
pickled. What cannot be written (an array, an open file) raises NoModel.
"""

import __future__

import ast
import builtins
import inspect
import linecache
import math
import symtable
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

from models.errors import NoModel

OF_THE_MODULE = {"__name__", "__file__", "__doc__", "__builtins__"}  # another's are its own
OF_A_NOTEBOOK = {"display", "get_ipython"}  # builtins there, and nowhere else
AT_ONCE = {"listcomp", "setcomp", "dictcomp", "genexpr"}  # scopes that run where they stand
FUTURE = "from __future__ import annotations"


def as_module(function: Callable[..., Any]) -> str:
    """Return the text of a module that defines `function` and all that it refers to. Raises NoModel."""
    return _Writer(function).text()


class _Writer:
    def __init__(self, function: Callable[..., Any]):
        self._entry, self._home = function, function.__module__
        self._imports: set[str] = set()
        self._constants: list[str] = []
        self._definitions: list[str] = []
        self._known: dict[str, Any] = {}

    def text(self) -> str:
        self._define(self._entry.__name__, self._entry, {})
        future = [FUTURE] if FUTURE in self._imports else []
        parts = [[*future, *sorted(self._imports - {FUTURE})], self._constants, *([each] for each in self._definitions)]
        return "\n\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"

    def _refer(self, name: str, value: Any, user: str, text: str, there: Mapping[str, Any]) -> None:
        """See to it that `name` means `value`; `user`: what uses it, in `text`; `there`: what names mean around it."""
        if name in self._known and self._known[name] is not value:
            raise NoModel(f"{user} uses {name!r}, which means two things here: give one of them another name")
        if isinstance(value, ModuleType):
            self._imports.add(f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else ""))
            self._imports |= {f"import {each}" for each in _submodules(name, value, text)}
        elif name in self._known:
            return
        elif self._is_of_the_same_place(value):
            self._define(name, value, there)
        elif (origin := _origin(value, self._home)) is not None:
            self._imports.add(f"from {origin[0]} import {origin[1]}" + (f" as {name}" if name != origin[1] else ""))
        elif (written := _written(value)) is not None:
            self._constants.append(f"{name} = {written}")
            self._imports |= {"import typing"} if written.startswith("typing.") else set()
        else:
            raise NoModel(
                f"{user} uses {name!r}, a {type(value).__name__}, which cannot be kept with the study: make it inside {user}, or "
                "make it a number, a text, or a list of such"
            )
        self._known[name] = value

    def _is_of_the_same_place(self, value: Any) -> bool:
        bare = inspect.unwrap(value) if callable(value) else value
        return isinstance(bare, FunctionType | type) and getattr(value, "__module__", None) == self._home

    def _define(self, name: str, value: Any, there: Mapping[str, Any]) -> None:
        """Write a definition; what it needs at once goes before it, what its functions need when they are called may follow."""
        own_name = value.__name__
        if self._known.get(own_name) is value:  # under another name
            self._definitions.append(f"{name} = {own_name}")
            return
        if self._known.setdefault(own_name, value) is not value:
            raise NoModel(f"{own_name!r} means two things here: give one of them another name")
        self._known[name] = value
        text, there = _source_of(value), {**there, **_namespace(value)}
        if _flags(value) & __future__.annotations.compiler_flag:
            self._imports.add(FUTURE)
        for late in (False, True):
            for used, meant in _used(value, text, there, late=late):
                self._refer(used, meant, own_name, text, there)
            if not late:
                self._definitions.append(text + (f"\n\n\n{name} = {own_name}" if name != own_name else ""))


def _origin(value: Any, home: str) -> tuple[str, str] | None:
    """Return module and name that another module has `value` by; None where it is no other module's."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == home:
        return None
    return (module, name) if getattr(sys.modules.get(module), name, None) is value else None


def _submodules(name: str, module: ModuleType, text: str) -> Iterator[str]:
    """Yield the modules that `text` reaches through `name`, as `pk.blocks.f` does; they must be imported for it."""
    for node in ast.walk(ast.parse(text)):
        chain: list[str] = []
        while isinstance(node, ast.Attribute):
            chain.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id == name:
            reached: Any = module
            for attribute in chain:
                inner = getattr(reached, attribute, None)
                if not isinstance(inner, ModuleType) or sys.modules.get(f"{reached.__name__}.{attribute}") is not inner:
                    break
                reached = inner
                yield reached.__name__


def _source_of(value: Any) -> str:
    """Return the source of a function, with the defaults that it has, or of a class."""
    name = value.__name__
    if name == "<lambda>":
        raise NoModel("a lambda has no name to be kept by: define it with def")
    try:
        text = _without_indent(inspect.getsource(value)).rstrip()
        node = ast.parse(text).body[0]
    except (
        OSError,
        TypeError,
        SyntaxError,
        IndexError,
    ) as error:  # of a class in a notebook, too
        if isinstance(value, type) and (found := _class_in_a_cell(value)):
            return found
        raise NoModel(
            f"the source of {name} cannot be read ({error}): define it in a file, a script or a notebook's cell"
        ) from error
    bare = inspect.unwrap(value)
    if isinstance(node, ast.FunctionDef) and isinstance(bare, FunctionType):
        if node.decorator_list and bare is value and value.__globals__.get(name) is not value:
            raise NoModel(f"{name} is hidden by its decorator, which is to use functools.wraps")
        return _with_defaults(bare, node, text)
    return text


def _without_indent(text: str) -> str:
    """Return a definition that began inside another; texts of several lines in it stay as they are."""
    if not text[:1].isspace():
        return text
    node = ast.parse("if True:\n" + text).body[0]
    assert isinstance(node, ast.If)
    return ast.unparse(node.body[0])


def _with_defaults(function: FunctionType, node: ast.FunctionDef, text: str) -> str:
    """Return the source of a function whose defaults are those that it has, not what their names mean today."""
    arguments, by_name = node.args, function.__kwdefaults__ or {}
    pairs = [*zip(arguments.defaults, function.__defaults__ or (), strict=False)]
    pairs += [(d, by_name[a.arg]) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d]
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    raw = text.encode()
    for default, value in sorted(pairs, key=lambda pair: (pair[0].lineno, pair[0].col_offset), reverse=True):
        if isinstance(default, ast.Constant) or (written := _written(value)) is None:
            continue
        begin, end = starts[default.lineno - 1] + default.col_offset, starts[(default.end_lineno or 1) - 1]
        raw = raw[:begin] + written.encode() + raw[end + (default.end_col_offset or 0) :]
    return raw.decode()


def _class_in_a_cell(value: type) -> str | None:
    """Return the source of a class of a notebook: the last that fits it, in the cell of one of its methods or in any."""
    own = _own_functions(value)
    loaded = {getattr(module, "__file__", None) for module in [*sys.modules.values()]}
    cells = [function.__code__.co_filename for function in own[:1]] or [
        name
        for name, entry in [*linecache.cache.items()]
        if len(entry) == 4 and entry[1] is None and name not in loaded
    ]
    found = None
    for cell in cells:
        text = "".join(linecache.getlines(cell))
        with suppress(SyntaxError, ValueError):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef) and node.name == value.__name__ and _fits(node, value, own):
                    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                    lines = text.splitlines()[first - 1 : node.end_lineno]
                    found = _without_indent("\n".join(lines))
    return found


def _fits(node: ast.ClassDef, value: type, own: list[FunctionType]) -> bool:
    """Whether a definition is that of a class: by the line of its first method, or else by the names in its body."""
    if own:
        return node.lineno <= own[0].__code__.co_firstlineno <= (node.end_lineno or 0)
    names = set()
    for each in node.body:
        targets = (
            each.targets if isinstance(each, ast.Assign) else [each.target] if isinstance(each, ast.AnnAssign) else []
        )
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names <= set(vars(value)) | set(getattr(value, "__annotations__", {}))


def _used(value: Any, text: str, there: Mapping[str, Any], *, late: bool) -> Iterator[tuple[str, Any]]:
    """Yield the names from outside that a definition uses, `late` those inside its functions, with what they mean there."""
    future = f"{FUTURE}\n" if _flags(value) & __future__.annotations.compiler_flag else ""
    try:
        table = symtable.symtable(future + text, "<model>", "exec")
    except SyntaxError as error:  # nonlocal
        raise NoModel(
            f"{value.__name__} cannot stand by itself ({error.msg}): define it outside of other functions"
        ) from error
    if isinstance(value, type) and value.__name__ in {base.__name__ for base in value.__bases__}:
        raise NoModel(f"{value.__name__} has the name of the class that it is made from: give it another")
    for name in dict.fromkeys(_from_outside(table, late)):
        if name in OF_THE_MODULE or (future and name == "annotations"):
            continue
        if name in there:
            yield name, there[name]
        elif not hasattr(builtins, name) or name in OF_A_NOTEBOOK:
            raise NoModel(f"{value.__name__} uses {name!r}, which is not defined")


def _from_outside(table: symtable.SymbolTable, late: bool, inside: bool = False) -> Iterator[str]:
    inside = inside or (table.get_type() == "function" and table.get_name() not in AT_ONCE)
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if (
            inside == late
            and symbol.is_referenced()
            and (symbol.is_global() or top)
            and not (top and symbol.is_assigned())
        ):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _from_outside(child, late, inside)


def _own_functions(value: type) -> list[FunctionType]:
    """Return the functions written in the body of a class; none that was put there from elsewhere, or made by a decorator."""
    bare = [getattr(each, "fget", None) or getattr(each, "__func__", each) for each in vars(value).values()]
    return [
        function
        for function in (inspect.unwrap(each) for each in bare if callable(each))
        if isinstance(function, FunctionType)
        and function.__globals__.get("__name__") == value.__module__
        and function.__qualname__ == f"{value.__qualname__}.{function.__name__}"
        and not function.__code__.co_filename.startswith("<string>")
    ]


def _namespace(value: Any) -> Mapping[str, Any]:
    """Return what names mean where a function, or a class by its methods, was defined; what a function encloses goes first."""
    bare = inspect.unwrap(value)
    found: dict[str, Any] = {}
    for function in [bare] if isinstance(bare, FunctionType) else _own_functions(bare):
        try:
            enclosed = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
        except ValueError as error:
            raise NoModel(f"{function.__name__} encloses a name that has no value yet: call it later") from error
        found |= {**function.__globals__, **{key: each for key, each in enclosed.items() if key != "__class__"}}
    return found


def _flags(value: Any) -> int:
    functions = [inspect.unwrap(value)] if not isinstance(value, type) else _own_functions(value)
    return next((each.__code__.co_flags for each in functions if isinstance(each, FunctionType)), 0)


def _written(value: Any) -> str | None:
    """Return a plain value as source, the same in every process; None for what is not plain."""
    if hasattr(value, "item") and not isinstance(value, type) and getattr(value, "shape", None) == ():
        value = value.item()  # a number of NumPy's
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, set | frozenset):
        parts = sorted(_written(each) or "" for each in value)
        text = ", ".join(parts)
        return None if "" in parts else f"{type(value).__name__}([{text}])"
    if getattr(type(value), "__module__", None) == "typing":  # Literal["relu", "gelu"], say
        with suppress(Exception):
            return repr(value) if eval(repr(value), {"typing": typing}) == value else None
    try:
        return repr(value) if bool(ast.literal_eval(repr(value)) == value) else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
