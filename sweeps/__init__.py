"""Which runs happen, and what came of them: `from sweeps import Study, Int, Float, Choice, open_study, best_runs, runs, …`.

Which room may import which: docs/architecture.md, checked by tests/test_architecture.py.
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api import Choice, Float, Int, Study, clean, export, init, open_study, status
    from sweeps.results.frames import best_runs, runs
    from sweeps.results.systems import confirmations, verdicts

__all__ = [
    "Choice",
    "Float",
    "Int",
    "Study",
    "best_runs",
    "clean",
    "confirmations",
    "export",
    "init",
    "open_study",
    "runs",
    "status",
    "verdicts",
]


def _load_our_packages() -> None:
    """Load `models` and `pipelines` from beside this package, whatever else has these names on the path.

    A user's folders of the same names stay importable: `models.X` and `pipelines.X` are theirs where ours has no X.
    """
    for name in ("models", "pipelines"):
        folder = Path(__file__).parent.parent / name
        known = sys.modules.get(name)
        if known is not None and folder in (Path(place) for place in getattr(known, "__path__", ())):
            continue
        for other in [
            each for each in sys.modules if each.startswith(f"{name}.")
        ]:  # theirs, where ours has one of that name
            if folder.joinpath(*other.split(".")[1:]).with_suffix(".py").exists():
                del sys.modules[other]
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[name] = package = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
        theirs = [Path(entry or ".").absolute() / name for entry in sys.path]
        package.__path__ += [str(place) for place in theirs if place.is_dir() and place != folder]
        if known is not None:
            vars(package)["__getattr__"] = known.__getattribute__  # what was imported before us


_load_our_packages()


def __getattr__(name: str) -> Any:  # lazily: `sweep --help` must not load MLflow
    if name in __all__:
        from sweeps import api

        if hasattr(api, name):
            return getattr(api, name)
        from sweeps.results import frames, systems

        return getattr(frames if hasattr(frames, name) else systems, name)
    raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
