"""The models that can be trained: one published system a file, every file of the same shape.

A model file defines `build(*, ...) -> keras.Model` (uncompiled; its keyword arguments are the hyperparameters, their defaults
the published values) and `RECIPES`, the published training settings and targets under one key a variant. `MODELS` lists the
project's own recipes: each is a model's name. Any other importable module of this shape may be named too, and may leave
`RECIPES` out. Where `build` names `input_shape` or `classes`, it is given those of the data set: they are no hyperparameters.
Keras is imported inside `build`, so that reading a model's arguments and recipes stays instant.
"""

import hashlib
import importlib
import inspect
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from models.errors import NoModel
from models.sources import BUILD, Source, UserModules, find, namesake

if TYPE_CHECKING:
    import keras

__all__ = ["NoModel", "Source", "namesake"]  # besides what is defined here

MODELS = {  # recipe: its file; the cheapest to train first
    "softmax": "models.softmax",
    "dense_sigmoid": "models.dense",
    "dense_relu": "models.dense",
    "dense_noisy": "models.dense",
    "dense_decay": "models.dense",
    "dense_dropout": "models.dense",
    "mlp_70_30": "models.mlp_70_30",
    "strided_cnn_valid": "models.strided_cnn",
    "chollet_cnn": "models.chollet_cnn",
    "mlp_512": "models.mlp_512",
    "strided_cnn": "models.strided_cnn",
    "strided_cnn_dropout": "models.strided_cnn",
    "lean_cnn": "models.lean_cnn",
    "strided_bn_cnn": "models.strided_bn_cnn",
    "augmented_cnn": "models.augmented_cnn",
    "augmented_cnn_bn": "models.augmented_cnn",
    "keras_cnn": "models.keras_cnn",
}
CALLBACKS = "callbacks"  # the function of a model's file that makes Keras callbacks
REFERENCES = {"human reading": 99.7, "state of the art": 99.79}  # percent, as the articles give them

OF_THE_DATA = ("input_shape", "classes")  # arguments of a `build` that the data set decides: no hyperparameters

Activation = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid"]
Pooling = Literal["max", "average", "stride", "batch_norm"]  # what shrinks the images; batch_norm shrinks nothing
Head = Literal["flatten", "global_average"]
Padding = Literal["valid", "same"]
Kind = Literal["printed", "about", "above", "goal"]  # of a published accuracy
Protocol = Literal["held_out", "official", "reshuffled"]  # see pipelines.datasets


@dataclass(frozen=True)
class Target:
    """A published test accuracy, in percent, and under which conditions it was reached.

    `kind`: a number as printed, a rounded one (`about`), a bound (`above`), or what its author set out for (`goal`).
    `decimals`: how many it was published with, where the number does not show it: "about 99.0" is 98.95 to 99.05, about 99 is
    98.5 to 99.5.
    """

    accuracy: float
    name: str
    source: str
    conditions: str
    kind: Kind = "printed"
    test_images: int = 10_000
    loss: float | None = None
    seconds: float | None = None  # of training, on the author's machine
    decimals: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A model as published: its training settings (names as in `pipelines.config.TrainingSettings`), and what it reached.

    `arguments`: those of `build` that differ from its defaults. `protocol`: which images it was trained and tested on.
    `remark`: what its author says of it where no accuracy is printed, or what is not the author's.
    """

    training: Mapping[str, Any]
    targets: Sequence[Target] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    protocol: Protocol = "official"
    remark: str = ""


_adopted: dict[str, UserModules] = {}  # users' models, by the reference that a study file or a run has of them
_written = set[str]()  # those of them that have no file


def adopt(source: Source) -> None:
    """Let `source.reference` mean this source in this process from now on."""
    known = _adopted.get(source.reference)
    if known is None or known.source.digest != source.digest:
        _adopted[source.reference] = UserModules(source)


def adopt_written(source: Source) -> None:
    """Adopt the source of a function of a notebook or a script: there is no file in which to look for it again."""
    _written.add(source.reference)
    adopt(source)


def resolve(reference: Any, folders: Sequence[Path]) -> Source | None:
    """Return the source of a user's model, looked for in `folders`, and adopt it; None for a shipped one. Raises NoModel."""
    if not isinstance(reference, str):
        raise NoModel(f"{reference!r} is not the name of a model")
    if reference in MODELS:
        return None
    if reference in _written and reference in _adopted:
        return _adopted[reference].source
    source = find(reference, folders)
    adopt(source)
    return source


def load(name: str) -> Any:
    """Return what has the `build` and the RECIPES of model `name`: one of `MODELS`, or a user's. Raises NoModel."""
    if name in MODELS:
        return importlib.import_module(MODELS[name])
    if name not in _adopted:
        resolve(name, [Path.cwd()])
    module: Any = _adopted[name].entry()
    function = _adopted[name].source.function
    if function != BUILD:  # the file's other facts stay
        build = getattr(module, function, None)
        others = {key: getattr(module, key) for key in ("RECIPES", CALLBACKS) if hasattr(module, key)}
        module = SimpleNamespace(build=build, __doc__=module.__doc__, **others)
    _check_shape(module, name, function)
    return module


def callbacks(name: str) -> Any | None:
    """Return the function `callbacks(settings)` of a model's file, which makes Keras callbacks; None where it has none."""
    found = getattr(load(name), CALLBACKS, None)
    return found if callable(found) else None


def function(reference: str) -> Any:
    """Return the function of the user's that `reference` names, as `losses.py:focal` does. Raises NoModel."""
    if reference not in _adopted:
        resolve(reference, [Path.cwd()])
    name = _adopted[reference].source.function
    found = getattr(_adopted[reference].entry(), name, None)
    if not callable(found):
        raise NoModel(f"{reference!r}: its module has no function {name}")
    return found


def source(name: str) -> Source | None:
    """Return the source of model `name`, with every module of the user's; None for a shipped one."""
    if name not in MODELS and name not in _adopted:
        resolve(name, [Path.cwd()])
    return None if name in MODELS else _adopted[name].source


def files(name: str) -> dict[str, bytes]:
    """Return the files that define model `name`, by path: `model.py`, and what it imports of the user's under `source/`."""
    own = source(name)
    if own is None or not own.files:
        return {"model.py": Path(inspect.getfile(load(name).build)).read_bytes()}
    others = own.paths() if len(own.files) > 1 else {}
    return {"model.py": own.text.encode()} | {f"source/{path}": text.encode() for path, text in others.items()}


def digest(name: str) -> str:
    """Return a short digest of the source of model `name`."""
    own = source(name)
    return own.digest if own else hashlib.sha256(files(name)["model.py"]).hexdigest()[:16]


def place_of(error: BaseException, name: str) -> str:
    """Return file and line at which an error arose: the last in the source of the user's model `name`, else the last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = _adopted[name].files() if name in _adopted else set[str]()
    last = next((frame for frame in reversed(frames) if frame.filename in own), frames[-1] if frames else None)
    return f"{last.filename}:{last.lineno}" if last else "unknown place"


def custom_objects(name: str) -> dict[str, Any]:
    """Return the classes and functions of a user's model, by name, that a saved model may refer to."""
    if name in MODELS:
        return {}
    load(name)
    return _adopted[name].classes()


def arguments(name: str) -> dict[str, Any]:
    """Return the hyperparameters of model `name` with their published values; raises NoModel."""
    parameters = inspect.signature(load(name).build).parameters
    own = {key: parameter.default for key, parameter in parameters.items() if key not in OF_THE_DATA}
    return own | dict(recipe(name).arguments)


def build(name: str, hyperparameters: Mapping[str, Any], input_shape: Any, classes: int) -> Any:
    """Return what model `name` builds for these hyperparameters; told of shape and classes where its `build` names them.

    `input_shape`: of one example, a tuple; of several inputs, a dict of them. `classes`: how many; 0 where numbers are predicted.
    """
    function = load(name).build
    of_data = {"input_shape": input_shape, "classes": classes}
    asked = inspect.signature(function).parameters
    return function(**{key: value for key, value in of_data.items() if key in asked} | dict(hyperparameters))


def options(name: str) -> dict[str, tuple[Any, ...]]:
    """Return the values that an argument of model `name` may have, for those whose annotation is a Literal."""
    build = load(name).build
    try:
        hints = get_type_hints(build, localns={"keras": SimpleNamespace(Model=object)})
    except Exception:  # annotations are the file's own affair, and may name anything
        return {}
    return {key: get_args(hint) for key, hint in hints.items() if get_origin(hint) is Literal}


def recipe(name: str) -> Recipe:
    """Return the recipe called `name`, or the first of that file; without one, that of Keras's usual settings."""
    recipes = getattr(load(name), "RECIPES", {})
    found: Recipe = recipes.get(name.rpartition(".")[2]) or next(iter(recipes.values()), Recipe(training={}))
    return found


def pooling_layer(pooling: Pooling, size: int = 2) -> "keras.Layer":
    """Return what follows a convolution for `pooling`; "stride" has none, it belongs into the convolution itself."""
    from keras import layers

    if pooling == "batch_norm":
        return layers.BatchNormalization()
    return {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}[pooling](size)


def _check_shape(module: Any, name: str, function: str = BUILD) -> None:
    build = getattr(module, "build", None)
    if not callable(build):
        raise NoModel(f"{name!r} has no function {function}(*, …) that returns a keras.Model")
    recipes = getattr(module, "RECIPES", {})
    if not isinstance(recipes, Mapping) or not all(isinstance(recipe, Recipe) for recipe in recipes.values()):
        raise NoModel(
            f"{name!r}: its RECIPES is not a dict of models.Recipe: leave it out, or see the files of models/"
        )
    for recipe in recipes.values():
        sequence = isinstance(recipe.targets, Sequence) and all(isinstance(t, Target) for t in recipe.targets)
        if not sequence or not isinstance(recipe.arguments, Mapping) or not isinstance(recipe.training, Mapping):
            raise NoModel(
                f"{name!r}: a recipe holds training settings and arguments as dicts, and targets as a list of models.Target"
            )
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError) as error:
        raise NoModel(f"{name!r}: its build has no signature that Python can read ({error})") from error
    for key, parameter in parameters.items():
        named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if key in OF_THE_DATA and named:
            continue
        if not named or parameter.default is parameter.empty:
            raise NoModel(
                f"{name!r}: its build takes {key!r} without a default: every argument needs a name and a default"
            )
    for recipe in recipes.values():
        unknown = [key for key in recipe.arguments if key not in parameters]
        if unknown:
            raise NoModel(f"{name!r}: a recipe gives {unknown[0]!r}, which is not an argument of its build")
