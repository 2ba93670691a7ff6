"""Training settings chosen by name, with options of their own: which names there are, and which options each takes.

Of optimizers and losses Keras's signatures say so. They are read from its source: importing Keras takes seconds, which checking
a study must not.
"""

import ast
import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import models
from pipelines.errors import nearest

Options = Mapping[str, Any]  # with their defaults
REQUIRED = object()  # in place of a default

PARTS = ("optimizer", "schedule", "loss")  # settings chosen by name; their options are called `optimizer.beta_1`
SCHEDULES: dict[str, Options] = {
    "exponential": {"warmup": 0.0},
    "cosine": {"warmup": 0.0, "horizon": REQUIRED},
    "linear": {"warmup": 0.0, "horizon": REQUIRED},
    "plateau": {
        "warmup": 0.0,
        "monitor": "val_loss",
        "factor": 0.1,
        "patience": 10,
        "min_delta": 1e-4,
        "cooldown": 0,
    },
}
MONITORS = ("val_loss", "loss")  # what schedule plateau can watch
CROSSENTROPY = "crossentropy"  # the default loss: of labels as they are or, where that needs it, of one-hot ones
OF_LABELS = (
    "sparse_categorical_crossentropy",
    "categorical_generalized_cross_entropy",
)  # the others: of one-hot labels
NOT_CLASSES = {"circle", "ctc"}  # losses of embeddings and of sequences
NOT_PLAIN = {"learning_rate", "name", "exclude_layers"}  # of an optimizer: ours, Keras's own affair, a list
FOR_US = {
    "name",
    "reduction",
    "dtype",
    "axis",
    "from_logits",
    "ignore_class",
}  # of a loss: follow from model and labels
WHOLE = {"ema_overwrite_frequency", "gradient_accumulation_steps", "warmup_steps", "ns_steps", "patience", "cooldown"}
CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")  # of which Keras takes one


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with `optimizer: {name: lion, beta_1: 0.95}` as `optimizer: lion` and `optimizer.beta_1: 0.95`.

    Raises ValueError for an option that is there twice.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        nested = key in PARTS and isinstance(value, Mapping)
        own = {key if name == "name" else f"{key}.{name}": each for name, each in value.items()} if nested else {}
        for name, each in (own if nested else {key: value}).items():
            if name in found:
                raise ValueError(f"{name} is there twice")
            found[name] = each
    return found


def overruled(settings: Mapping[str, Any], by: Mapping[str, Any], searched: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, flat, with those of `by` in place of theirs; of an optimizer that `by` names or is searched, no option."""
    own, other = flat(settings), flat(by)
    replaced = tuple(f"{part}." for part in PARTS if part in other or part in searched)
    return {name: value for name, value in own.items() if not name.startswith(replaced)} | other


def part_of(name: str) -> str | None:
    """Return the setting that `name` is an option of, or the name of; None for any other setting."""
    part = name.partition(".")[0]
    return part if part in PARTS else None


def names_of(part: str) -> Mapping[str, Options]:
    """Return all that a setting can be, by name, each with its options."""
    if part == "schedule":
        return SCHEDULES
    return optimizers() if part == "optimizer" else losses()


def options_of(part: str, name: str) -> Options:
    """Return the options that a setting has with this name; raises ValueError for an unknown one."""
    if part == "loss" and is_function(name):
        return _options_of_function(name)
    known = names_of(part)
    if name not in known:
        raise ValueError(f"{part}: {name!r} is unknown{nearest(name, known)}; expected one of {', '.join(known)}")
    return known[name]


def is_function(name: Any) -> bool:
    """Whether a loss's name is a reference to a function of the user's, as `losses.py:focal` and `losses:focal` are."""
    return isinstance(name, str) and (":" in name or name.endswith(".py"))


def _options_of_function(reference: str) -> Options:
    parameters = list(inspect.signature(models.function(reference)).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes_two = len(parameters) >= 2 and all(each.kind in positional for each in parameters[:2])
    if not takes_two or any(each.default is each.empty for each in parameters[2:]):
        raise ValueError(
            f"loss {reference} is not a function of labels and probabilities, whose further arguments have defaults"
        )
    plain = (bool, int, float, type(None))
    return {
        each.name: each.default
        for each in parameters[2:]
        if isinstance(each.default, plain) and each.name not in FOR_US
    }


def defaults_of(part: str, name: str) -> dict[str, Any]:
    """Return the options with their defaults, under the names that settings have."""
    return {f"{part}.{key}": value for key, value in options_of(part, name).items() if value is not REQUIRED}


def is_required(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether `name` is an option without which these settings, flat, cannot be."""
    part, _, option = name.partition(".")
    return part == "schedule" and SCHEDULES.get(str(settings.get(part)), {}).get(option) is REQUIRED


def check(part: str, name: str, given: Options) -> None:
    """Raise ValueError, naming the option, for options that the setting does not take with this name, and for missing ones."""
    if part == "loss" and is_function(name) and not given:
        return  # a study is read without running the user's code
    known = options_of(part, name)
    for option, value in given.items():
        if option not in known:
            own = ", ".join(known) or "none"
            raise ValueError(f"{part} {name} has no option {option!r}{nearest(option, known)}; known: {own}")
        _check_value(f"{part}.{option}", option, value, known[option])
    missing = [option for option, default in known.items() if default is REQUIRED and given.get(option) is None]
    if missing:
        raise ValueError(f"{part} {name} needs {missing[0]}: {part}: {{name: {name}, {missing[0]}: …}}")
    if part == "schedule":
        _check_schedule(name, {**known, **given})
    if len(clips := [clip for clip in CLIPS if given.get(clip) is not None]) > 1:
        raise ValueError(f"{part} {name} takes one of {', '.join(CLIPS)}, got {' and '.join(clips)}")


def _check_value(label: str, option: str, value: Any, default: Any) -> None:
    if value is None and default is None:
        return
    expected, fits = "a number", isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, bool):
        expected, fits = "true or false", isinstance(value, bool)
    elif isinstance(default, str):
        expected, fits = f"one of {', '.join(MONITORS)}", value in MONITORS
    elif option in WHOLE:
        expected, fits = "a whole number", isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not fits:
        raise ValueError(f"{label} is {expected}, got {value!r}")


def _check_schedule(name: str, options: Options) -> None:
    if options["warmup"] < 0:
        raise ValueError(f"schedule.warmup is a number of epochs, got {options['warmup']}")
    if "horizon" in options and options["horizon"] <= options["warmup"]:
        raise ValueError(
            f"schedule {name}: its horizon, {options['horizon']:g} epochs, is not longer than its warm-up, "
            f"{options['warmup']:g}: the learning rate has reached its end after the horizon, warm-up included"
        )
    if name == "plateau" and not 0 < options["factor"] < 1:
        raise ValueError(f"schedule.factor lies between 0 and 1, got {options['factor']:g}")
    if name == "plateau" and options["patience"] < 1:
        raise ValueError("schedule.patience is at least 1 epoch")


@cache
def optimizers() -> dict[str, Options]:
    """Return every optimizer of Keras by its name with its options; wrappers of others have no learning rate of their own."""
    found = {name.lower(): arguments for name, arguments in _classes("optimizers") if "learning_rate" in arguments}
    return {
        name: {key: value for key, value in arguments.items() if key not in NOT_PLAIN}
        for name, arguments in found.items()
    }


@cache
def default_rates() -> dict[str, float]:
    """Return the learning rate that each optimizer of Keras has by itself."""
    return {
        name.lower(): float(arguments["learning_rate"])
        for name, arguments in _classes("optimizers")
        if "learning_rate" in arguments
    }


@cache
def losses() -> dict[str, Options]:
    """Return every loss between one-hot labels and probabilities that Keras has, by its name, with its options."""
    named = {str(arguments.get("name")): arguments for _, arguments in _classes("losses")}
    return {CROSSENTROPY: {"label_smoothing": 0.0}} | {
        name.removesuffix("_loss"): {key: value for key, value in arguments.items() if key not in FOR_US}
        for name, arguments in named.items()
        if name not in (str(None), *NOT_CLASSES)
    }


def loss_class(name: str) -> str:
    """Return the class of `keras.losses` that a loss's name stands for."""
    return next(
        each for each, arguments in _classes("losses") if str(arguments.get("name")).removesuffix("_loss") == name
    )


def optimizer_class(name: str) -> str:
    """Return the class of `keras.optimizers` that an optimizer's name stands for."""
    return next(each for each, _ in _classes("optimizers") if each.lower() == name)


def _classes(package: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the classes that a package of Keras exports, with the arguments of their `__init__` that have plain defaults."""
    spec = find_spec("keras")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    for statement in _parsed(root / package / "__init__.py").body:
        if not isinstance(statement, ast.ImportFrom) or not statement.module:
            continue
        file = root.joinpath(*statement.module.split(".")[1:]).with_suffix(".py")
        if not file.is_file():
            continue
        tree = _parsed(file)
        for name in (alias.name for alias in statement.names):
            arguments = [_arguments(each) for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name]
            if arguments:
                yield name, arguments[0]


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _arguments(definition: ast.ClassDef) -> dict[str, Any]:
    for each in definition.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            named = each.args.args[len(each.args.args) - len(each.args.defaults) :]
            found = {}
            for argument, default in zip(named, each.args.defaults, strict=True):
                with suppress(ValueError):  # an expression: of a wrapper's alone
                    found[argument.arg] = ast.literal_eval(default)
            return found
    return {}
