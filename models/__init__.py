"""The models that can be trained: one published system a file, every file of the same shape.

A model file defines `build(*, ...) -> keras.Model` (uncompiled; its keyword arguments are the hyperparameters, their defaults the
published values) and `RECIPES`, the published training settings and target under one key a variant.
Keras is imported inside `build`, so that reading a model's arguments and recipes stays instant.
"""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

MODELS = {
    "lean_cnn": "models.lean_cnn",
}


@dataclass(frozen=True)
class Target:
    """A published test accuracy, in percent, with the protocol behind it."""

    accuracy: float
    name: str
    source: str
    protocol: str
    test_images: int = 10_000


@dataclass(frozen=True)
class Recipe:
    """A published model's training settings (names as in `pipelines.train.TrainingSettings`) and what its author reached."""

    training: Mapping[str, Any]
    target: Target


def load(name: str) -> ModuleType:
    """Return the model file called `name`; raises KeyError for an unknown name."""
    return importlib.import_module(MODELS[name])


def arguments(name: str) -> dict[str, Any]:
    """Return the hyperparameters of model `name` with their published values."""
    signature = inspect.signature(load(name).build)
    return {key: parameter.default for key, parameter in signature.parameters.items()}
