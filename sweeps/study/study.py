"""What a study is: its search space, its budget, and what to train for a trial's parameters."""

import hashlib
import json
import math
import operator
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_serializer, model_validator

import models
from pipelines import metrics, options
from pipelines.config import ALWAYS, RunConfig, TrainingSettings
from pipelines.datasets.spec import KnownDataset, SpecField
from pipelines.errors import UserError
from pipelines.metrics import Direction, Metric, Task

Scalar = bool | int | float | str | None


LARGEST_INT = 2**53  # up to which a float is exact: Optuna stores parameters as floats
MOST_STEPS = 1_000_000
NEARLY = 1e-9  # relative: what is further apart is another number


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Entry(_Strict):
    """What every entry may carry: the condition under which it is searched."""

    when: dict[str, Scalar | list[Scalar]] = {}

    def exact(self, value: Any) -> Any:
        """Return a value of this entry as a person writes it: Optuna's steps end in 0.30000000000000004."""
        return value

    def active(self, params: Mapping[str, Scalar]) -> bool:
        """Whether this entry is searched beside `params`, those that stand above it."""
        return all(
            name in params and any(_equal(params[name], allowed) for allowed in as_list(value))
            for name, value in self.when.items()
        )


class IntRange(_Entry):
    """Whole numbers from `int[0]` to `int[1]`, both included, in steps or, with `log`, uniformly in their logarithm."""

    bounds: Annotated[
        list[Annotated[int, Field(ge=-LARGEST_INT, le=LARGEST_INT)]], Field(alias="int", min_length=2, max_length=2)
    ]
    step: int = Field(1, ge=1)
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.bounds, self.log)
        if self.log and self.step != 1:
            raise ValueError("give step or log, not both")
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

    def grid(self) -> Sequence[Scalar]:
        """Return every value."""
        return range(self.bounds[0], self.bounds[1] + 1, self.step)


class FloatRange(_Entry):
    """Numbers from `float[0]` to `float[1]`, uniformly, in steps or, with `log`, uniformly in their logarithm."""

    bounds: Annotated[
        list[Annotated[float, Field(allow_inf_nan=False)]], Field(alias="float", min_length=2, max_length=2)
    ]
    step: float | None = Field(None, gt=0, allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.bounds, self.log)
        if self.log and self.step:
            raise ValueError("give step or log, not both")
        if self.step and (self.bounds[1] - self.bounds[0]) / self.step > MOST_STEPS:
            raise ValueError(f"step {self.step:g} makes more than {MOST_STEPS:,} values")
        if self.step and not self._on_step(self.bounds[1]):
            raise ValueError(f"step {self.step:g} does not lead from {self.bounds[0]:g} to {self.bounds[1]:g}")
        return self

    def contains(self, value: Scalar) -> bool:
        """Whether `value` lies in the range, on a step if there are steps."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return self.bounds[0] <= value <= self.bounds[1] and (self.step is None or self._on_step(value))

    def examples(self) -> list[Scalar]:
        """Return the outermost values."""
        return [*self.bounds]

    def grid(self) -> Sequence[Scalar] | None:
        """Return every value; None without steps."""
        if self.step is None:
            return None
        steps = round((self.bounds[1] - self.bounds[0]) / self.step)
        return [self._at_step(number) for number in range(steps + 1)]

    def exact(self, value: Any) -> Any:
        """Return a stepped value as a person writes it."""
        if self.step is None or not isinstance(value, int | float):
            return value
        return self._at_step(round((value - self.bounds[0]) / self.step))

    def _at_step(self, number: int) -> float:
        return float(Decimal(repr(self.bounds[0])) + number * Decimal(repr(self.step)))

    def _on_step(self, value: float) -> bool:
        return abs(value - float(self.exact(value))) <= NEARLY * (self.step or 1.0)


class Choice(_Entry):
    """One of the listed values."""

    choice: Annotated[list[Scalar], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for index, value in enumerate(self.choice):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{value} is not a finite number")
            if any(_equal(value, other) for other in self.choice[:index]):
                raise ValueError(f"{value!r} is there twice")
            same = [
                other for other in self.choice[:index] if value == other or str(value).lower() == str(other).lower()
            ]
            if same:  # Optuna takes 1 for True, and MLflow stores text
                raise ValueError(f"{same[0]!r} and {value!r} are one value in the stores: keep one of them")
        return self

    def contains(self, value: Scalar) -> bool:
        """Whether `value` is one of the choices."""
        return any(_equal(value, option) for option in self.choice)

    def examples(self) -> list[Scalar]:
        """Return all of them."""
        return self.choice

    def grid(self) -> Sequence[Scalar]:
        """Return all of them."""
        return self.choice


Entry = IntRange | FloatRange | Choice
ENTRY_KINDS: dict[str, type[Entry]] = {"int": IntRange, "float": FloatRange, "choice": Choice}


class Constraint(_Strict):
    """What must hold of a trial before it is trained: two sides, each a number or a name, and a comparison between them."""

    left: float | str
    operator: Literal["<=", ">=", "<", ">"]
    right: float | str

    @classmethod
    def parse(cls, text: str) -> "Constraint":
        """Read "parameters <= 50000" or "filters1 <= filters2"; raises ValueError."""
        match = re.fullmatch(r"\s*([\w.+-]+)\s*(<=|>=|<|>)\s*([\w.+-]+)\s*", text)
        sides = [_side(match[1]), _side(match[3])] if match else []
        numbers = [side for side in sides if isinstance(side, float)]
        if match is None or len(numbers) == 2 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"{text!r} is not a comparison: expected NAME <= NUMBER or NAME <= NAME (or >=, <, >)")
        return cls(left=sides[0], operator=match[2], right=sides[1])  # type: ignore[arg-type]

    @property
    def names(self) -> list[str]:
        """The names compared."""
        return [side for side in (self.left, self.right) if isinstance(side, str)]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds; `values` has every name."""
        left, right = (values[side] if isinstance(side, str) else side for side in (self.left, self.right))
        compare = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
        return bool(compare[self.operator](left, right))


class Budget(_Strict):
    """Where the study ends, whichever comes first: trials, hours of running over all resumptions, epochs trained in total."""

    trials: int | None = Field(None, ge=1, le=1_000_000)
    hours: float | None = Field(None, gt=0, allow_inf_nan=False)
    epochs: int | None = Field(None, ge=1, le=LARGEST_INT)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.trials is None and self.hours is None and self.epochs is None:
            raise ValueError("give at least one of trials, hours, epochs")
        return self


PARAMETERS = "parameters"  # the number of a model's parameters, as constraints and objectives call it
COSTS: dict[str, Direction] = {PARAMETERS: "minimize", "seconds": "minimize"}  # objectives that are no metrics
FORMER_ACCURACY = "val_accuracy"  # what objectives called it before there were other metrics


class Objective(_Strict):
    """What a study optimises: a metric, on validation images, or a cost. `direction`: to be given for a user's metric."""

    name: str
    direction: Direction

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        content = {"name": given} if isinstance(given, str) else given
        if not isinstance(content, dict) or "name" not in content:
            return content
        name, direction = content["name"], content.get("direction")
        if name == FORMER_ACCURACY:
            name = "accuracy"
        metrics.check_name(name, [*COSTS])
        if metrics.is_users(name) and direction is None:
            raise ValueError(f"{name} needs a direction: {{name: {name}, direction: minimize}}, or maximize")
        own = None if metrics.is_users(name) else COSTS.get(name) or metrics.get(name).direction
        if own and direction not in (None, own):
            raise ValueError(f"{name} is to be {own}d: leave direction out, got {direction!r}")
        return content | {"name": name, "direction": own or direction}

    @model_serializer
    def _as_written(self) -> str | dict[str, str]:
        return {"name": self.name, "direction": self.direction} if metrics.is_users(self.name) else self.name

    @property
    def metric(self) -> Metric | None:
        """The metric; None for a cost."""
        return None if self.name in COSTS else metrics.get(self.name, self.direction)

    @property
    def short(self) -> str:
        """What tables and tags call it."""
        return metrics.short(self.name)

    @property
    def column(self) -> str:
        """The name of its value, in MLflow and in `runs()`."""
        return self.name if self.name in COSTS else f"val_{self.short}"

    def __str__(self) -> str:
        return f"{self.short} {self.direction}" if metrics.is_users(self.name) else self.name

    @classmethod
    def parse(cls, text: str) -> "Objective":
        """Return the objective that is written so; raises UserError for a metric that this version does not have."""
        name, _, direction = text.partition(" ")
        if direction:  # a user's, whose source is not asked for
            return cls.model_construct(name=f":{name}", direction=direction)
        try:
            return cls.model_validate(name)
        except ValidationError as error:
            raise UserError(f"the study's objective {name!r} is not a metric of this version") from error


class TargetEntry(_Strict):
    """A published value on test images, to compare with: an accuracy in percent, or any metric in its own unit.

    The other fields are those of `models.Target`.
    """

    accuracy: float | None = Field(None, gt=0, le=100)
    metric: str | None = None
    value: float | None = Field(None, allow_inf_nan=False)
    name: str
    source: str = ""
    conditions: str = ""
    kind: models.Kind = "printed"
    test_images: int = Field(10_000, ge=1)
    decimals: int | None = Field(None, ge=0, le=6)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.accuracy is None) == (self.metric is None) or (self.metric is None) != (self.value is None):
            raise ValueError("give accuracy (in percent), or metric and value: {metric: rmse, value: 0.9, name: …}")
        if self.metric is not None and self.value is not None:
            metrics.check_name(self.metric)
            low, high = metrics.get(self.metric).range
            if not low <= self.value <= high:
                raise ValueError(f"{self.metric} lies between {low:g} and {high:g}, and value is {self.value:g}")
        return self

    @property
    def of(self) -> str:
        """The metric, as a study file names it."""
        return self.metric or "accuracy"

    @property
    def published(self) -> float:
        """The value in the unit in which the metric is shown: percent for an accuracy."""
        return self.accuracy if self.value is None else metrics.get(self.of).scale * self.value  # type: ignore[return-value]


OWN_TAGS = {  # what every run says of itself
    *(
        "study",
        "study_uid",
        "study_digest",
        "trial",
        "phase",
        "protocol",
        "model_digest",
        "objectives",
        "metrics",
        "sampler",
    ),
    *(
        "dataset",
        "dataset_digest",
        "ended",
        "failure",
        "figures",
        "figures_failed",
        "model_files",
        "restored",
        "backend",
    ),
    *("device", "device_name", "device_memory_gib", "cpu_cores", "matmul_precision"),
    *("git_commit", "git_dirty", "sweeps_commit", "sweeps_dirty"),
}
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ -]{0,99}")
LONGEST_TAG = 5000  # characters of its value
StartPoint = Literal["recipe"] | dict[str, Scalar]
TRIALS_WITHOUT_IMPROVEMENT = "trials_without_improvement"  # a rule of `stop`
CHANGEABLE = {"budget", "targets", "trial_timeout", "max_failures", "keep_models", "population"}
CHANGEABLE |= {"stop", "trial_minutes", "tags", "description"}
MODEL = "model"  # the name under which models are searched


class Study(_Strict):
    """A study file, checked."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")]
    model: str  # the first of several, which are searched under `model` too
    model_digests: dict[str, str] = Field(
        {}, exclude=True
    )  # of the sources of users' models, by their references; no key of a file
    function_digests: dict[str, str] = Field(
        {}, exclude=True
    )  # of the sources of the user's functions, by their references
    dataset: SpecField = KnownDataset(name="mnist")
    protocol: models.Protocol = "held_out"
    task: Task = "classification"
    arguments: dict[str, Scalar] = {}  # of the model's build: those that are neither searched nor the recipe's
    training: dict[str, Any] = {}
    search: dict[str, Entry]  # empty: trials differ by their seeds alone
    constraints: list[str] = []
    objectives: list[Objective] = []  # at least one, once it is checked; the first rules
    metrics: list[str] = []  # measured besides the objectives and those that always are
    repeats: int = Field(1, ge=1, le=20)
    folds: int | None = Field(None, ge=2, le=20)
    sampler: str | dict[str, Any] = "tpe"
    pruner: str | dict[str, Any] = "asha"
    budget: Budget
    start: list[StartPoint] = ["recipe"]  # the recipe, if listed, comes first: it is trial 0
    targets: list[TargetEntry] = []
    seed: int = Field(0, ge=0, le=LARGEST_INT)
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = []  # of the trials, in place of those that follow from `seed`
    trial_timeout: float = Field(
        3600.0, gt=0, description="seconds in which an epoch must end, else the trial counts as hung"
    )
    max_failures: int = Field(3, ge=1, description="so many failures in a row for one reason pause the study")
    keep_models: int | None = Field(None, ge=0, description="keep the weights of the best n trials only")
    population: int = Field(1, ge=1, le=1024, description="trials that a worker trains at once, as one program")
    stop: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}  # what ends it, whatever is left of its budget
    trial_minutes: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of training, after which a trial ends"
    )
    tags: dict[str, str | bool | int | float] = {}  # of its runs in MLflow
    description: str = Field("", max_length=4000)

    @model_validator(mode="before")
    @classmethod
    def _with_objective(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("objectives") is None:
            task = content.get("task", "classification")
            return content | ({"objectives": [metrics.default(task)]} if task in [*metrics.ALWAYS] else {})
        return content

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_metrics()
        if self.repeats > 1 and self.folds:
            raise ValueError("give repeats or folds, not both")
        if self.population > 1 and self.task != "classification":
            raise ValueError("population: its program trains classifications; leave it out for task regression")
        if self.population > 1 and (self.trainings > 1 or self.protocol == "reshuffled"):
            raise ValueError(
                "population: its trials share their images, and are one model each: give no repeats, no folds, and no protocol "
                "reshuffled"
            )
        if self.search and self.protocol != "held_out":
            raise ValueError(
                f"protocol {self.protocol} watches the test images, so nothing may be searched under it: leave protocol out, "
                "or give search: {} to train one configuration from several seeds"
            )
        self._check_stop()
        self._check_tags()
        if not self.search:
            self._check_that_nothing_chooses()
        if self.seeds:
            enough = self.budget.trials and self.budget.trials <= len(self.seeds)
            if self.search or not enough or len(set(self.seeds)) < len(self.seeds):
                raise ValueError(
                    "seeds lists a seed for each trial of a study without a search: at least budget.trials, none of them twice"
                )
        return self

    def _check_metrics(self) -> None:
        names = [objective.short for objective in self.objectives]
        if not names or self.objectives[0].metric is None or len(set(names)) < len(names):
            raise ValueError(
                f"objectives begin with a metric ({', '.join(metrics.METRICS)}, or one of yours), and name each once; "
                f"{' and '.join(COSTS)} may follow"
            )
        for name in self.metrics:
            metrics.check_name(name)
            if metrics.short(name) in COSTS:
                raise ValueError(f"metrics: {name} has the name of a cost: rename the function")
        measured = {metric.name: metric for metric in self.measured}
        references = [*(o.name for o in self.objectives if o.metric), *self.metrics]
        if len({metrics.short(name) for name in references}) < len(set(references)):
            raise ValueError(
                "objectives and metrics: two functions have one name, which names their columns: rename one"
            )
        for metric in measured.values():
            if metric.task not in (None, self.task):
                raise ValueError(
                    f"{metric.name} is a metric of task {metric.task}, and this study's task is {self.task}"
                )
        for target in self.targets:
            if metrics.short(target.of) not in measured:
                raise ValueError(
                    f"target {target.name} is of {target.of}, which is not measured: name it under metrics"
                )

    def _check_tags(self) -> None:
        for name, value in self.tags.items():
            if not TAG.fullmatch(name) or len(str(value)) > LONGEST_TAG:
                raise ValueError(
                    f"tags: {name[:100]!r} cannot be a tag: a name has letters, digits, _, - and spaces, at most 100, a value "
                    f"{LONGEST_TAG:,} characters"
                )
            if name in OWN_TAGS or name.endswith("_version"):
                raise ValueError(
                    f"tags: runs carry a tag {name!r} already, with another meaning: give yours another name"
                )

    def _check_stop(self) -> None:
        for name, value in self.stop.items():
            if name == TRIALS_WITHOUT_IMPROVEMENT:
                if value < 1 or value != int(value):
                    raise ValueError(f"stop.{name}: expected a whole number of at least 1, got {value:g}")
            elif name not in {each for objective in self.objectives for each in (objective.short, objective.column)}:
                known = ", ".join([*(objective.column for objective in self.objectives), TRIALS_WITHOUT_IMPROVEMENT])
                raise ValueError(f"stop: {name!r} is not an objective of this study: expected one of {known}")
            elif metric := self.objective_called(name).metric:
                low, high = metric.range
                if not low <= value <= high:
                    raise ValueError(f"stop: {name} lies between {low:g} and {high:g}, and the rule says {value:g}")

    def _check_that_nothing_chooses(self) -> None:
        if self.stop:
            raise ValueError("without a search no trial is better than another: leave stop out")
        if self.pruner not in ("none", {"name": "none"}) or len(self.objectives) > 1 or self.constraints:
            raise ValueError("without a search nothing is chosen: leave pruner, objectives and constraints out")
        if self.keep_models:
            raise ValueError(
                "without a search no trial is better than another: keep_models is 0, or left out to keep all"
            )
        if self.trainings > 1 and not self.seeds:
            raise ValueError("without a search each trial is a seed: give budget.trials instead of repeats or folds")

    @property
    def objective(self) -> Metric:
        """The metric that is the first objective: it rules kept epoch, patience, pruner, ranking and confirmation."""
        metric = self.objectives[0].metric
        assert metric is not None
        return metric

    def objective_called(self, name: str) -> Objective:
        """Return the objective that a rule of `stop` names: accuracy, or val_accuracy."""
        return next(objective for objective in self.objectives if name in (objective.short, objective.column))

    @property
    def directions(self) -> list[Direction]:
        """Which way each objective goes."""
        return [objective.direction for objective in self.objectives]

    @property
    def measured(self) -> list[Metric]:
        """The metrics that are measured after each epoch and of the kept one, the first objective first."""
        names = dict.fromkeys(
            [*(o.name for o in self.objectives if o.metric), *metrics.ALWAYS[self.task], *self.metrics]
        )
        directions = {objective.name: objective.direction for objective in self.objectives}
        return [metrics.get(name, directions.get(name)) for name in names]

    def judged(self) -> set[str]:
        """Return the names of the metrics that a target is of."""
        return {metrics.short(target.of) for target in self.targets}

    def sorted_targets(self) -> list[TargetEntry]:
        """Return the targets, the easiest first, one metric after the other."""
        by_name = {metric.name: metric for metric in self.measured}
        order = [*by_name]
        return sorted(
            self.targets,
            key=lambda each: (
                order.index(metrics.short(each.of)),
                -by_name[metrics.short(each.of)].cost(each.published),
            ),
        )

    def users_metrics(self) -> list[str]:
        """Return those of its metrics that are users', as the study file names them."""
        return [metric.reference for metric in self.measured if metric.reference]

    @property
    def models(self) -> list[str]:
        """The models that its trials train, the first of which gives the recipe."""
        return [str(name) for name in self.search[MODEL].examples()] if MODEL in self.search else [self.model]

    def model_of(self, params: Mapping[str, Any]) -> str:
        """Return the model that a trial with these parameters trains."""
        return str(params.get(MODEL, self.model))

    def models_with(self, name: str) -> list[str]:
        """Return the models with which a searched name is searched."""
        allowed = self.search[name].when.get(MODEL, [*self.models])
        return [model for model in self.models if model in as_list(allowed)]

    @property
    def settings(self) -> TrainingSettings:
        """The training settings that are not searched: the recipe's, overruled by the file's; the best epoch kept."""
        if self.training.keys() >= set(ALWAYS):  # as stored: the model need not be here
            return TrainingSettings(**self.training)
        recipe = models.recipe(self.model).training
        settings = options.overruled(recipe, self.training, self.search)
        for part in {options.part_of(name) for name in settings if "." in name} & self.search.keys():
            settings[str(part)] = self.search[str(part)].examples()[0]  # whose options these are
        for name in [*self.search]:
            if options.is_required(name, settings) and name not in settings:
                settings[name] = self.search[name].examples()[0]  # without which there are no settings
        return TrainingSettings(**settings)

    @property
    def mixes_precision(self) -> bool:
        """Whether any of its trials computes in less than float32."""
        return self.settings.mixed_precision is not None or "mixed_precision" in self.search

    @property
    def functions(self) -> list[str]:
        """The references to functions of the user's: losses and metrics."""
        searched = self.search["loss"].examples() if "loss" in self.search else []
        losses = [str(name) for name in [self.training.get("loss"), *searched] if options.is_function(name)]
        return [*dict.fromkeys([*losses, *self.users_metrics()])]

    @property
    def longest_training(self) -> int:
        """The most epochs that a model of a trial can have."""
        searched = self.search.get("epochs")
        own = self.settings.epochs
        if searched is None:
            return own
        return max([int(epochs or 0) for epochs in searched.examples()] + ([own] if searched.when else []))

    @property
    def trainings(self) -> int:
        """How many models a trial trains."""
        return self.folds or self.repeats

    @property
    def start_points(self) -> list[dict[str, Scalar]]:
        """The parameters of the first trials, by trial number."""
        return [self._recipe_point() if point == "recipe" else point for point in self.start]

    def active(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return those of `values` that are searched under the values above them."""
        params: dict[str, Scalar] = {}
        for name, entry in self.search.items():
            if name in values and entry.active(params):
                params[name] = entry.exact(values[name])
        return params

    def _recipe_point(self) -> dict[str, Scalar]:
        published = TrainingSettings(**models.recipe(self.model).training).everything()
        return self.active(published | models.arguments(self.model) | {MODEL: self.model})

    def run_config(self, params: Mapping[str, Any], seed: int) -> RunConfig:
        """Return what to train for a trial's parameters; what is not among them has the model's or the study's own value."""
        model = self.model_of(params)
        own = models.arguments(model)
        arguments = own | {name: value for name, value in self.arguments.items() if name in own}
        params = {
            name: self.search[name].exact(value) if name in self.search else value for name, value in params.items()
        }
        fixed = {
            name: value
            for name, value in self.settings.model_dump().items()
            if "." not in name or name not in self.search
        }
        return RunConfig(
            model=model,
            hyperparameters=arguments | {k: v for k, v in params.items() if k in arguments},
            dataset=self.dataset,
            protocol=self.protocol,
            training=TrainingSettings(**(fixed | {k: v for k, v in params.items() if k not in (*arguments, MODEL)})),
            seed=seed,
            repeats=self.repeats,
            folds=self.folds,
            task=self.task,
            objective=self.objectives[0].name,
            direction=self.objectives[0].direction if metrics.is_users(self.objectives[0].name) else None,
            metrics=[*dict.fromkeys([*(o.name for o in self.objectives[1:] if o.metric), *self.metrics])],
        )

    def first_configs(self) -> list[RunConfig]:
        """Return a configuration of each model: its first start point, or else its own values."""
        points = [{MODEL: model} for model in self.models]
        firsts = [next((p for p in self.start_points if self.model_of(p) == each[MODEL]), each) for each in points]
        return [self.run_config(point, seed=0) for point in firsts]

    def seed_of(self, trial: int) -> int:
        """Return the seed of a trial: weights, order of images and dropout follow from it, and the sampler's draw."""
        if self.seeds:
            return self.seeds[trial]
        return int(np.random.SeedSequence([self.seed, trial]).generate_state(1)[0])

    def definition(self) -> dict[str, Any]:
        """Return what makes this study this study: all but what may change on resuming."""
        new = {"seeds": [], "metrics": [], "task": "classification"}  # a study from before there were any has none
        empty = {name for name, value in new.items() if getattr(self, name) == value}
        content = self.model_dump(mode="json", by_alias=True, exclude=CHANGEABLE | empty)
        content["objectives"] = [self._defined(objective) for objective in self.objectives]
        content |= {"metrics": [self._source_of(name) for name in self.metrics]} if self.metrics else {}
        sources = {name: f"source {digest}" for name, digest in self.model_digests.items()}
        if len(self.models) > 1:
            content |= {"models": sources} if sources else {}
        elif sources:  # a user's model is its source, wherever that lies
            content["model"] = sources[self.model]
        content["dataset"] = self.dataset.identity
        if losses := [name for name in self.functions if name not in self.users_metrics()]:
            content["functions"] = {name: f"source {self.function_digests[name]}" for name in losses}
        return content | {"training": self.settings.model_dump(mode="json"), "start": self.start_points}

    def _defined(self, objective: Objective) -> str:
        """Return an objective as the definition has it: accuracy under its name of before, which is in every older digest."""
        if objective.name == "accuracy":
            return FORMER_ACCURACY
        own = metrics.is_users(objective.name)
        return f"{self._source_of(objective.name)} {objective.direction}" if own else objective.name

    def _source_of(self, reference: str) -> str:
        """Return what a metric is known by: a user's by its source, wherever that lies."""
        digest = self.function_digests.get(reference)
        return f"{metrics.short(reference)} of source {digest}" if digest else reference

    def digest(self) -> str:
        """Return a short digest of the definition."""
        return hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()[:16]


def as_list(value: Any) -> list[Any]:
    """Return a value as a list of one; a list as it is."""
    return value if isinstance(value, list) else [value]


def _equal(value: Scalar, other: Scalar) -> bool:
    if isinstance(value, bool) != isinstance(other, bool):
        return False
    if isinstance(value, float) and isinstance(other, int | float):
        return math.isclose(value, other, rel_tol=NEARLY)
    return value == other


def _side(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _check_range(bounds: list[Any], log: bool) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range is upside down: {bounds[0]} > {bounds[1]}")
    if log and bounds[0] <= 0:
        raise ValueError(f"a logarithmic range must begin above 0, got {bounds[0]}")


def format_params(params: Mapping[str, Any]) -> str:
    """Return parameters as text that may be wrapped between them."""
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )
