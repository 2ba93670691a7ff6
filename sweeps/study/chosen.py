"""A sampler or pruner as a study file gives it: by name, with options that are checked against Optuna's own signatures."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipelines.errors import UserError, nearest

WRAPPED = "wrapped_pruner"  # the one option of a pruner that is a pruner
_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": None}  # option types that YAML can write


@dataclass(frozen=True)
class Chosen:
    """A sampler or pruner by name with its options; `why`: the reason, where it was chosen for the user."""

    name: str
    options: Mapping[str, Any]
    why: str = ""


def named(given: str | Mapping[str, Any]) -> Chosen:
    """Return what a study file gives, as name and options."""
    if isinstance(given, str):
        return Chosen(given, {})
    return Chosen(str(given["name"]), {key: value for key, value in given.items() if key != "name"})


def check_chosen(given: Any, kind: str, names: Sequence[str], classes: Mapping[str, type]) -> None:
    """Raise UserError for an unknown name, and for options that its class does not take."""
    known = ", ".join(names)
    if not isinstance(given, str) and not (isinstance(given, dict) and isinstance(given.get("name"), str)):
        raise UserError(f"{kind}: expected a name or {{name: NAME, option: value}} with one of {known}, got {given!r}")
    chosen = named(given)
    if chosen.name not in names:
        raise UserError(f"{kind}: {chosen.name!r} is unknown{nearest(chosen.name, names)}; expected one of {known}")
    accepted = _options(classes[chosen.name]) if chosen.name in classes else {}
    for name, value in chosen.options.items():
        if name == WRAPPED and chosen.name == "patient":
            if value is not None:
                check_chosen(value, f"{kind} patient: {WRAPPED}", names, classes)
            continue
        if name not in accepted:
            own, hint = ", ".join(accepted) or "none", nearest(name, accepted)
            raise UserError(
                f"{kind} {chosen.name}: {name!r} is not an option that a study file can give{hint}; known: {own}"
            )
        try:
            TypeAdapter(accepted[name], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            raise UserError(f"{kind} {chosen.name}: {name}: {error.errors()[0]['msg']}, got {value!r}") from error
    required = [
        name
        for name, parameter in (_signature(classes[chosen.name]) if chosen.name in classes else {}).items()
        if parameter.default is inspect.Parameter.empty and name != WRAPPED
    ]
    missing = [name for name in required if name not in chosen.options]
    if missing:
        raise UserError(f"{kind} {chosen.name} needs {', '.join(missing)}: {{name: {chosen.name}, {missing[0]}: …}}")


def _signature(cls: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls).parameters


def _options(cls: type) -> dict[str, Any]:
    """Return the options of one of Optuna's classes that plain values can express, with their types."""
    options = {}
    for name, parameter in _signature(cls).items():
        annotation = parameter.annotation
        parts = [part.strip() for part in getattr(annotation, "__name__", str(annotation)).split("|")]
        if name != "seed" and all(part in _PLAIN for part in parts):
            options[name] = Union[tuple(_PLAIN[part] for part in parts)]  # noqa: UP007 - built from what was read
    return options
