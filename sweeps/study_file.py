"""Study files: what they may say, and one clear line when they say something else."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

import models
from pipelines import data
from pipelines.config import RunConfig, TrainingSettings
from pipelines.errors import UserError

FOLDER = Path(__file__).parent / "studies"
LARGEST_FILE = 1_000_000  # bytes
Scalar = bool | int | float | str | None


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class IntRange(_Strict):
    """Whole numbers from `int[0]` to `int[1]`, both included, in steps."""

    bounds: Annotated[list[int], Field(alias="int", min_length=2, max_length=2)]
    step: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_order(self.bounds)
        if (self.bounds[1] - self.bounds[0]) % self.step:
            raise ValueError(f"step {self.step} does not lead from {self.bounds[0]} to {self.bounds[1]}")
        return self

    def contains(self, value: Scalar) -> bool:
        """Whether `value` is one of the numbers."""
        low, high = self.bounds
        return type(value) is int and low <= value <= high and (value - low) % self.step == 0

    def examples(self) -> list[Scalar]:
        """Return the outermost values."""
        return [*self.bounds]


class FloatRange(_Strict):
    """Numbers from `float[0]` to `float[1]`, uniformly or, with `log`, uniformly in their logarithm."""

    bounds: Annotated[
        list[Annotated[float, Field(allow_inf_nan=False)]], Field(alias="float", min_length=2, max_length=2)
    ]
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_order(self.bounds)
        if self.log and self.bounds[0] <= 0:
            raise ValueError(f"a logarithmic range must begin above 0, got {self.bounds[0]}")
        return self

    def contains(self, value: Scalar) -> bool:
        """Whether `value` lies in the range."""
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and self.bounds[0] <= value <= self.bounds[1]
        )

    def examples(self) -> list[Scalar]:
        """Return the outermost values."""
        return [*self.bounds]


class Choice(_Strict):
    """One of the listed values."""

    choice: Annotated[list[Scalar], Field(min_length=1)]

    def contains(self, value: Scalar) -> bool:
        """Whether `value` is one of the choices."""
        return any(value == option and type(value) is type(option) for option in self.choice)

    def examples(self) -> list[Scalar]:
        """Return all of them."""
        return self.choice


Entry = IntRange | FloatRange | Choice
ENTRY_KINDS: dict[str, type[Entry]] = {"int": IntRange, "float": FloatRange, "choice": Choice}


class Budget(_Strict):
    """Where the study ends, whichever comes first: trials, hours of running over all resumptions, epochs trained in total."""

    trials: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0, allow_inf_nan=False)
    epochs: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.trials is None and self.hours is None and self.epochs is None:
            raise ValueError("give at least one of trials, hours, epochs")
        return self


class TargetEntry(_Strict):
    """A published test accuracy, in percent, to compare with."""

    accuracy: float = Field(gt=0, le=100)
    name: str
    source: str = ""


StartPoint = Literal["recipe"] | dict[str, Scalar]


class Study(_Strict):
    """A study file, checked."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    model: str
    dataset: str = "mnist"
    training: dict[str, Any] = {}
    search: dict[str, Entry]
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["hyperband", "median", "none"] = "hyperband"
    budget: Budget
    start: list[StartPoint] = ["recipe"]  # the recipe, if listed, comes first: it is trial 0
    targets: list[TargetEntry] = []
    seed: int = Field(0, ge=0)
    trial_timeout: float = Field(
        3600.0, gt=0, description="seconds in which an epoch must end, else the trial counts as hung"
    )

    @property
    def settings(self) -> TrainingSettings:
        """The training settings that are not searched: the recipe's, overruled by the file's; the best epoch kept."""
        return TrainingSettings(**(dict(models.load(self.model).RECIPES[self.model].training) | self.training))

    @property
    def longest_training(self) -> int:
        """The most epochs that a trial can have."""
        return (
            max(int(e or 0) for e in self.search["epochs"].examples())
            if "epochs" in self.search
            else self.settings.epochs
        )

    @property
    def start_points(self) -> list[dict[str, Scalar]]:
        """The parameters of the first trials, by trial number."""
        return [self._recipe_point() if point == "recipe" else point for point in self.start]

    def _recipe_point(self) -> dict[str, Scalar]:
        published = TrainingSettings(**models.load(self.model).RECIPES[self.model].training).model_dump()
        known = models.arguments(self.model) | published
        return {name: known[name] for name in self.search}

    def run_config(self, params: Mapping[str, Any], seed: int) -> RunConfig:
        """Return what to train for a trial's parameters."""
        arguments = models.arguments(self.model)
        return RunConfig(
            model=self.model,
            hyperparameters=arguments | {k: v for k, v in params.items() if k in arguments},
            dataset=self.dataset,
            training=TrainingSettings(
                **(self.settings.model_dump() | {k: v for k, v in params.items() if k not in arguments})
            ),
            seed=seed,
        )

    def definition(self) -> dict[str, Any]:
        """Return what makes this study this study: all but its budget, targets and timeout, which may change on resuming."""
        content = self.model_dump(mode="json", by_alias=True, exclude={"budget", "targets", "trial_timeout"})
        return content | {"training": self.settings.model_dump(mode="json"), "start": self.start_points}

    def digest(self) -> str:
        """Return a short digest of the definition."""
        return hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()[:16]


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
    if dataset is not None and dataset != content.get("dataset", "mnist"):
        content |= {"dataset": dataset, "name": f"{content.get('name')}-{dataset}"}
    if seed is not None and seed != content.get("seed", 0):
        content |= {"seed": seed, "name": f"{content.get('name')}-seed{seed}"}
    return _checked(content, where)


def find(name_or_path: str) -> Path:
    """Return the study file of that name, or at that path."""
    shipped = FOLDER / f"{name_or_path}.yaml"
    if re.fullmatch(r"[\w.-]+", name_or_path) and shipped.is_file():
        return shipped
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
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
                TrainingSettings.model_validate({name: value})
            except ValidationError as error:
                raise UserError(f"{where}: search.{name} gives {value!r}: {_first(error)}") from error
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


def _check_order(bounds: list[Any]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range is upside down: {bounds[0]} > {bounds[1]}")


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"] if part not in ("IntRange", "FloatRange", "Choice"))
    message = problem["msg"].removeprefix("Value error, ")
    got = f", got {problem['input']!r}" if problem["type"] not in ("value_error", "missing") else ""
    return f"{place}: {message}{got}" if place else message


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
