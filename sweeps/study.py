"""What a study is: its search space, its budget, and what to train for a trial's parameters."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

import models
from pipelines.config import RunConfig, TrainingSettings

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


def _check_order(bounds: list[Any]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range is upside down: {bounds[0]} > {bounds[1]}")
