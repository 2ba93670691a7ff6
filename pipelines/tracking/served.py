"""Loads a registered model with a user's own layers: copied into the version's `code/`, and called by MLflow when it is served.

Keras reads a class from a file only when it has been registered, so every module beside this one is imported first. This project
need not be installed there; what a model file takes from its `models` package describes a recipe, which serving has no use for.
"""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = "served"  # of this module in `code/`


class _Absent:
    """Stands for what is not needed to serve."""

    def __call__(self, *_: Any, **__: Any) -> "_Absent":
        return self

    def __getitem__(self, _: Any) -> "_Absent":
        return self


def _absent(name: str) -> _Absent:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Absent()


def _load_pyfunc(path: str) -> Any:
    """Return the model as MLflow serves it; the name is MLflow's."""
    import keras
    import mlflow.keras

    try:
        ours = importlib.import_module("models")
    except ModuleNotFoundError:
        ours = sys.modules["models"] = ModuleType("models")
    if not hasattr(ours, "Recipe"):
        vars(ours)["__getattr__"] = _absent
    folder = Path(__file__).parent
    for file in sorted(folder.rglob("*.py")):
        name = ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        if name != NAME:
            module = importlib.import_module(name)
            for each in vars(module).values():
                if inspect.isclass(each) and each.__module__ == name:
                    keras.saving.get_custom_objects().setdefault(each.__name__, each)
    return mlflow.keras._load_pyfunc(path)
