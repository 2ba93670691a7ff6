"""Study files: read, checked, and answered with one clear line when something is wrong."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

import models
from pipelines import data
from pipelines.config import TrainingSettings
from pipelines.errors import UserError
from sweeps.study import ENTRY_KINDS, Budget, Study

FOLDER = Path(__file__).parent / "studies"
LARGEST_FILE = 1_000_000  # bytes


def available() -> list[str]:
    """Return the names of the study files that ship with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(
    name_or_path: str, budget: Mapping[str, Any] | None = None, dataset: str | None = None, seed: int | None = None
) -> Study:
    """Read and check a study, by name or by path; raises UserError with one line for the first mistake found.

    `budget` overrules single entries of the file's. Another data set or seed is another study, under a name of its own.
    """
    path = find(name_or_path)
    content = _read(path)
    where = path.name
    if isinstance(content.get("budget"), dict):
        content["budget"] = content["budget"] | {k: v for k, v in (budget or {}).items() if v is not None}
    own_name = str(content.get("name") or "")
    if dataset is not None and dataset != content.get("dataset", "mnist"):
        content |= {"dataset": dataset, "name": (own_name := own_name and f"{own_name}-{dataset}")}
    if seed is not None and seed != content.get("seed", 0):
        content |= {"seed": seed, "name": own_name and f"{own_name}-seed{seed}"}
    return _checked(content, where)


def find(name_or_path: str) -> Path:
    """Return the study file of that name, or at that path."""
    if name_or_path in available():
        return FOLDER / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if os.path.isfile(path):  # noqa: PTH113 - unlike Path.is_file, says False to any nonsense
            return path
        raise UserError(
            f"there is no study file {name_or_path}: expected a path to a YAML file, or one of {', '.join(available())}"
        )
    raise UserError(
        f"unknown study {name_or_path!r}{_nearest(name_or_path, available())}: expected a path to a YAML file, or one of "
        f"{', '.join(available())}"
    )


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but 1e-6 is a number (as in YAML 1.2) and a key said twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not a word", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path.name} is {path.stat().st_size:,} bytes: a study file has at most {LARGEST_FILE:,}")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} cannot be read ({error}): expected a YAML text file") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path.name} is no valid study file: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path.name} must hold keys and values ({', '.join(Study.model_fields)})")
    return content


def _checked(content: dict[str, Any], where: str) -> Study:
    _check_names(content, Study.model_fields, where, "key")
    _check_sections(content, where)
    _check_model_and_dataset(content, where)
    arguments, settings = models.arguments(content["model"]), TrainingSettings.model_fields
    training, search = content.get("training") or {}, content["search"]
    _check_names(training, settings, f"{where}: training", "training setting")
    _check_names(
        search, [*arguments, *settings], f"{where}: search", f"hyperparameter of {content['model']} or training setting"
    )
    for name in search:
        if name in training:
            raise UserError(f"{where}: {name} stands under both training and search: keep one")
        _check_entry(search[name], f"{where}: search.{name}")
    for section, kind in (("sampler", "tpe"), ("pruner", "hyperband")):
        _check_option(
            content.get(section, kind), get_args(Study.model_fields[section].annotation), f"{where}: {section}"
        )
    _check_names(content["budget"], Budget.model_fields, f"{where}: budget", "budget")
    try:
        study = Study(**(content | {"training": training}))
        _ = study.settings
    except ValidationError as error:
        raise UserError(f"{where}: {_first(error)}") from error
    _check_values(study, where)
    return study


def _check_sections(content: dict[str, Any], where: str) -> None:
    for key, kind in (("search", dict), ("budget", dict), ("training", dict), ("start", list), ("targets", list)):
        if key in content and not isinstance(content[key], kind) and not (key == "training" and content[key] is None):
            expected = "keys and values" if kind is dict else "a list"
            raise UserError(f"{where}: {key} must hold {expected}, got {content[key]!r}")
    missing = [key for key, field in Study.model_fields.items() if field.is_required() and not content.get(key)]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}: a study needs name, model, search and budget")


def _check_model_and_dataset(content: dict[str, Any], where: str) -> None:
    _check_option(content["model"], models.MODELS, f"{where}: model")
    _check_option(content.get("dataset", "mnist"), data.DATASETS, f"{where}: dataset")


def _check_entry(entry: Any, where: str) -> None:
    kinds = [kind for kind in ENTRY_KINDS if isinstance(entry, dict) and kind in entry]
    if len(kinds) != 1:
        raise UserError(
            f"{where} must be one of {{int: [lo, hi]}}, {{float: [lo, hi]}}, {{choice: [...]}}, got {entry!r}"
        )
    options = ["step"] if kinds[0] == "int" else ["log"] if kinds[0] == "float" else []
    _check_names(entry, [kinds[0], *options], where, f"option of {kinds[0]}")
    try:
        ENTRY_KINDS[kinds[0]](**entry)
    except ValidationError as error:
        raise UserError(f"{where}: {_first(error)}") from error


def _check_values(study: Study, where: str) -> None:
    """Check that what can be searched can be built, and that every start point lies inside the ranges."""
    arguments = models.arguments(study.model)
    for name, entry in study.search.items():
        for value in entry.examples():
            if name in arguments:
                default = arguments[name]
                fits = type(value) is type(default) or (isinstance(default, float) and type(value) is int)
                if not fits and default is not None:
                    raise UserError(
                        f"{where}: search.{name} gives {value!r}, but {study.model} takes a {type(default).__name__}"
                    )
                continue
            try:
                TrainingSettings.model_validate({name: value}, strict=True)
            except ValidationError as error:
                raise UserError(f"{where}: search.{name} gives {value!r}: {_first(error)}") from error
    if "recipe" in study.start[1:]:
        raise UserError(f"{where}: start lists the recipe after other points: it is always trial 0, put it first")
    for index, point in enumerate(study.start_points):
        label = f"{where}: start[{index}]" + (" (the recipe)" if study.start[index] == "recipe" else "")
        _check_names(point, study.search, label, "searched name")
        missing = [name for name in study.search if name not in point]
        if missing:
            raise UserError(f"{label} lacks {', '.join(missing)}: a start point gives every searched name")
        for name, value in point.items():
            if not study.search[name].contains(value):
                raise UserError(f"{label} has {name}={value!r}, outside {study.search[name].model_dump(by_alias=True)}")


def _check_option(value: Any, allowed: Iterable[str], where: str) -> None:
    if value not in list(allowed):
        raise UserError(
            f"{where}: {value!r} is unknown{_nearest(str(value), allowed)}; expected one of {', '.join(allowed)}"
        )


def _check_names(given: Iterable[str], allowed: Iterable[str], where: str, kind: str) -> None:
    for name in given:
        if name not in allowed:
            raise UserError(f"{where}: {name!r} is no {kind}{_nearest(name, allowed)}; known: {', '.join(allowed)}")


def _nearest(name: str, allowed: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"] if part not in ("IntRange", "FloatRange", "Choice"))
    message = problem["msg"].removeprefix("Value error, ")
    got = f", got {problem['input']!r}" if problem["type"] not in ("value_error", "missing") else ""
    return f"{place}: {message}{got}" if place else message


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
