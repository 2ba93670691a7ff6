"""A user's model: found where it lies, kept with every module of theirs that it imports, and imported by their names.

Their `models/` or `pipelines/` may lie beside a package of ours with the same name. So a user's modules are loaded here, not by
Python's own search: in them `import models` means theirs where they have it, and ours where not. What they import is found by
reading the `import` statements, those inside functions too; a module imported by other means is not kept.
"""

import ast
import builtins
import hashlib
import importlib
import importlib.abc
import importlib.util
import inspect
import linecache
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from models.cells import as_module
from models.errors import NoModel
from models.quiet import quiet

OURS = Path(__file__).parent.parent
PACKAGES = ("models", "pipelines", "sweeps")  # ours
PATH = re.compile(r"(?P<path>.+\.py)(:(?P<function>[A-Za-z_]\w*))?")
NAME = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)(:(?P<function>[A-Za-z_]\w*))?")
BUILD = "build"
LARGEST = 2_000_000  # characters of source that are kept with a study


@dataclass(frozen=True)
class Source:
    """The source of a user's model. `reference`: as a study file writes it; `entry`: the module that has `function`.

    `files`: the text of every module, by its name (`nets.blocks`; a package's own file as `nets.__init__`). A module that is
    installed as a library is imported from there, and has no files.
    """

    reference: str
    entry: str
    function: str
    files: Mapping[str, str]
    folder: str = ""  # where the files lie; "": they are known by their text alone

    @property
    def digest(self) -> str:
        """A short digest of all files, whatever the folder and the name of the entry; of one file, that of its text."""
        if not self.files:
            file = Path(inspect.getfile(importlib.import_module(self.entry)))
            return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        others = {name: text for name, text in self.files.items() if name not in (self.entry, f"{self.entry}.__init__")}
        digest = hashlib.sha256(self.text.encode())
        for name in sorted(others):
            digest.update(f"\0{name}\0{others[name]}".encode())
        if self.function != BUILD:
            digest.update(f"\0{self.function}".encode())
        return digest.hexdigest()[:16]

    @property
    def text(self) -> str:
        """The text of the file that has the model."""
        return self.files.get(self.entry) or self.files[f"{self.entry}.__init__"]

    @property
    def packages(self) -> set[str]:
        """The packages that the modules lie in, those without a file of their own too."""
        return {parent for name in self.files for parent in _with_parents(name)[:-1]}

    def paths(self) -> dict[str, str]:
        """Return the text of every file by its path in a folder of its own; packages have an `__init__.py`."""
        whole = {f"{package}.__init__": "" for package in self.packages} | dict(self.files)
        return {f"{name.replace('.', '/')}.py": text for name, text in sorted(whole.items())}

    def write(self, folder: Path) -> None:
        """Write every file to `folder`."""
        for path, text in self.paths().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")

    def content(self) -> dict[str, Any]:
        """Return it as plain data, without the place where it lies."""
        return {"reference": self.reference, "entry": self.entry, "function": self.function, "files": dict(self.files)}


def find(reference: str, folders: Sequence[Path]) -> Source:
    """Return the source of the model that `reference` names: a module, or a file; `:function` may follow.

    A file, or the module's, is looked for in each of `folders`, then on Python's path. Raises NoModel.
    """
    if by_path := PATH.fullmatch(reference):
        return _of_file(reference, Path(by_path["path"]).expanduser(), by_path["function"] or BUILD, folders)
    by_name = NAME.fullmatch(reference)
    if by_name is None:
        raise NoModel(f"{reference!r} is not a model: expected the name of a module, or the path of a Python file")
    places, module = [*folders, *_users_path()], by_name["module"]
    function = by_name["function"] or BUILD
    place = next((place for place in places if _file(place, module)), None)
    if place is not None:
        return Source(reference, module, function, _closure(module, [place, *places]), str(place))
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise NoModel(f"{reference!r} cannot be imported ({error})") from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise NoModel(f"{reference!r} is unknown, and no module of that name is found here")
    origin = Path(spec.origin)
    if _is_library(origin) or _is_ours(origin):
        return Source(reference, module, function, {}, "")
    root = origin.parents[module.count(".") + (origin.name == "__init__.py")]
    return Source(reference, module, function, _closure(module, [root, *places]), str(root))


def of_function(function: Callable[..., Any], module: str, folders: Sequence[Path]) -> Source:
    """Return the source of a model that a function builds; one of a notebook or a script is called `module`. Raises NoModel."""
    if not isinstance(function, FunctionType):
        raise NoModel(f"expected a function, or the name of a model, got a {type(function).__name__}")
    home = sys.modules.get(function.__module__)
    if home is not None and function.__module__ != "__main__" and getattr(home, "__file__", None) and _is_top(function):
        return find(f"{function.__module__}:{function.__qualname__}", folders)
    text = as_module(function)
    files = _closure(module, [*folders, *_users_path()], {module: text})
    return Source(module, module, function.__name__, files)


def _is_top(function: Callable[..., Any]) -> bool:
    return function.__qualname__ == function.__name__ != "<lambda>"


def namesake(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the user's own file that has the name of a shipped model, if there is one."""
    return next((path for folder in folders if (path := folder / f"{name}.py").is_file() and not _is_ours(path)), None)


def _of_file(reference: str, path: Path, function: str, folders: Sequence[Path]) -> Source:
    places = [path] if path.is_absolute() else [folder / path for folder in folders]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = ", ".join(dict.fromkeys(str(place.parent) for place in places))
        raise NoModel(f"there is no file {path} (looked in {looked})")
    found = Path(os.path.abspath(found))  # noqa: PTH100 - a link keeps its name
    module, root = found.stem, found.parent
    while (root / "__init__.py").is_file():  # the file of a package is imported as part of it
        module, root = f"{root.name}.{module}", root.parent
    if not NAME.fullmatch(module):
        raise NoModel(f"{path} cannot be imported, since {module!r} is not a name in Python: rename the file")
    return Source(reference, module, function, _closure(module, [root, *folders, *_users_path()]), str(root))


def _closure(entry: str, places: Sequence[Path], written: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the text of a module, and of every module of the user's that it imports; `written`: texts that have no file."""
    files: dict[str, str] = {}
    wanted, seen = [entry], set[str]()
    while wanted:
        module = wanted.pop()
        if module in seen:
            continue
        seen.add(module)
        if module != entry and module.partition(".")[0] in sys.stdlib_module_names:
            continue
        found = next((file for place in places if (file := _file(place, module))), None)
        if module in (written or {}):
            found = Path(f"{module}.py")
        if found is None:
            continue
        try:
            text = (written or {}).get(module) or found.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NoModel(f"{found} cannot be read ({error})") from error
        is_package = found.name == "__init__.py"
        files[f"{module}.__init__" if is_package else module] = text
        wanted += _imported(text, module if is_package else module.rpartition(".")[0], found)
        wanted += [module.rpartition(".")[0]] if "." in module else []
        if sum(map(len, files.values())) > LARGEST:
            raise NoModel(
                f"{entry!r} imports more than {LARGEST:,} characters of source: keep what is not the model's apart"
            )
    return files


def _imported(text: str, package: str, file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise NoModel(f"{file}{line} is not valid Python ({getattr(error, 'msg', error)})") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name for alias in node.names for name in _with_parents(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names if base)


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _file(place: Path, module: str) -> Path | None:
    """Return the file of a user's module in a folder; None where it is not there, or ours."""
    base = place.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file() and not _is_ours(path):
            return path
    return None


def _users_path() -> list[Path]:
    """Return the folders on Python's path that are not a library's."""
    folders = [Path(entry or ".").absolute() for entry in sys.path]
    return [folder for folder in folders if folder.is_dir() and not _is_library(folder / "x.py")]


def _is_library(path: Path) -> bool:
    standard = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return bool(installed) or any(path.is_relative_to(folder) for folder in standard if folder)


def _is_ours(path: Path) -> bool:
    return any(path.is_relative_to(OURS / package) for package in PACKAGES)


class _Loader(importlib.abc.ExecutionLoader):
    """Makes a module of its text."""

    def __init__(self, text: str, path: str, is_package: bool):
        self._text, self._path, self._is_package = text, path, is_package

    def get_source(self, fullname: str) -> str:
        return self._text

    def get_filename(self, fullname: str) -> str:
        return self._path

    def is_package(self, fullname: str) -> bool:
        return self._is_package


class UserModules:
    """The modules of a source, loaded on demand."""

    def __init__(self, source: Source):
        self.source = source
        self._loaded: dict[str, ModuleType] = {}
        self._packages = source.packages

    def entry(self) -> ModuleType:
        """Return the module that has the model; raises NoModel where importing it fails, with the line at which it does."""
        try:
            if self.source.entry in self._loaded:
                return self._loaded[self.source.entry]
            if not self.source.files:
                return importlib.import_module(self.source.entry)
            with quiet():  # it may import Keras
                return self._get(self.source.entry)
        except ModuleNotFoundError as error:
            raise NoModel(
                f"{self.source.reference!r} cannot be imported: it needs {error.name}, which is not installed"
            ) from error
        except (Exception, SystemExit) as error:  # a module may do anything while it is imported
            raise NoModel(
                f"{self.source.reference!r} cannot be imported ({type(error).__name__}: {error}){self._line(error)}"
            ) from error

    def classes(self) -> dict[str, Any]:
        """Return the classes and functions that the modules define, by name: what a saved model may refer to."""
        with quiet():
            for name in self.source.files:
                self._get(name.removesuffix(".__init__"))
        modules = [*self._loaded.values()] or [self.entry()]  # of a library's, its own module alone
        return {
            name: value
            for module in modules
            for name, value in vars(module).items()
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
        }

    def files(self) -> set[str]:
        """Return the files of the modules, as tracebacks name them."""
        return {self._path(name.removesuffix(".__init__"), name.endswith(".__init__")) for name in self.source.files}

    def _line(self, error: BaseException) -> str:
        own = self.files()
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
        return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""

    def _get(self, name: str) -> ModuleType:
        """Return a module by name: the user's if they have it, else what Python finds."""
        if name in self._loaded:
            return self._loaded[name]
        parent, _, own_name = name.rpartition(".")
        above = self._get(parent) if parent else None
        if name in self._loaded:  # the parent imports it
            return self._loaded[name]
        if name not in self.source.files and name not in self._packages:
            return importlib.import_module(name)
        module = self._load(name)
        if above is not None and parent in self._loaded:
            setattr(above, own_name, module)
        return module

    def _load(self, name: str) -> ModuleType:
        is_package = name in self._packages
        text = self.source.files.get(f"{name}.__init__" if is_package else name, "")
        path = self._path(name, is_package)
        if not self.source.folder:  # tracebacks show its lines all the same
            linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        loader = _Loader(text, path, is_package)
        spec = importlib.util.spec_from_loader(name, loader, origin=path, is_package=is_package)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__file__ = path
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": self._import}
        self._loaded[name] = module
        if _is_free(name):
            sys.modules[name] = module
        try:
            loader.exec_module(module)
        except BaseException:
            del self._loaded[name]
            if sys.modules.get(name) is module:
                del sys.modules[name]
            raise
        if name in PACKAGES:
            _fall_back(module, name)
        return module

    def _path(self, name: str, is_package: bool) -> str:
        relative = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
        return str(Path(self.source.folder or "<kept with the study>") / relative)

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        """What `import` means in a user's module."""
        absolute = importlib.util.resolve_name("." * level + name, globals["__package__"]) if level else name
        top = absolute.partition(".")[0]
        standard = top in sys.stdlib_module_names and not level
        if standard or (top not in self.source.files and top not in self._packages):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if not fromlist:
            self._get(absolute)
            return self._get(top)
        module = self._get(absolute)
        for each in fromlist:
            if f"{absolute}.{each}" in self.source.files or f"{absolute}.{each}" in self._packages:
                self._get(f"{absolute}.{each}")
            elif top in PACKAGES and each != "*" and not hasattr(module, each):
                with suppress(ModuleNotFoundError):  # then the name is missing, as Python says
                    importlib.import_module(f"{absolute}.{each}")
        return module


def _fall_back(module: ModuleType, name: str) -> None:
    """Let what a user's package of one of our names lacks be ours."""
    theirs = vars(module).get("__getattr__")

    def getattr_(attribute: str) -> Any:
        if theirs is not None:
            try:
                return theirs(attribute)
            except AttributeError:
                pass
        return getattr(importlib.import_module(name), attribute)

    vars(module)["__getattr__"] = getattr_


def _is_free(name: str) -> bool:
    """Whether a user's module may be known to all of Python by its name: no library's, and none of ours, is called so."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return False
    if top in PACKAGES:
        return "." in name and _file_of_ours(name) is None
    known = sys.modules.get(top)
    if known is not None:
        return (
            "__import__" in getattr(known, "__builtins__", {})
            and known.__builtins__["__import__"] is not builtins.__import__
        )
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    return spec is None or spec.origin is None or not _is_library(Path(spec.origin))


def _file_of_ours(name: str) -> Path | None:
    base = OURS.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
