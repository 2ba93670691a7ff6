"""What decides a run: how it is trained, and everything else."""

import ast
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

import models
from models import Protocol
from pipelines import metrics
from pipelines.datasets.spec import KnownDataset, SpecField, as_text
from pipelines.metrics import Direction, Metric, Task


class TrainingSettings(BaseModel):
    """How a model is trained. Any field can be searched by a study."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    optimizer: Literal["adam", "rmsprop", "sgd", "adadelta"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    lr_decay: float = Field(1.0, gt=0, le=1, description="learning rate of epoch e: learning_rate * lr_decay**e")
    lr_floor: float = Field(0.0, ge=0, allow_inf_nan=False, description="the learning rate never falls below this")
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd")
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(15, ge=1)
    pixels: Literal["by_255", "by_256", "standardized"] = Field(
        "by_255", description="divided, or each pixel standardised over the training images"
    )
    rotation: float = Field(0.0, ge=0, le=180, description="images are turned by up to so many degrees, in training")
    shift: float = Field(0.0, ge=0, lt=1, description="and moved by up to this share of their height and width")
    shear: float = Field(0.0, ge=0, le=45, description="and sheared by up to so many degrees")
    zoom: float = Field(0.0, ge=0, lt=1, description="and each side scaled: 0.1 is to between 1/1.1 and 1/0.9")
    patience: int | None = Field(
        None, ge=1, description="stop after so many epochs in which the first objective was not better"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="which epoch's weights: best by the first objective, or last"
    )

    def learning_rate_of(self, epoch: int) -> float:
        """Return the learning rate of `epoch`, counted from 0."""
        return max(self.learning_rate * self.lr_decay**epoch, self.lr_floor)


class RunConfig(BaseModel):
    """All that decides a run's result: with the code's version and the data set's digest, it can be trained again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    hyperparameters: dict[str, Any]
    dataset: SpecField
    protocol: Protocol = "held_out"
    training: TrainingSettings
    seed: int
    repeats: int = 1  # models trained from different seeds; the run's result is their mean
    folds: int | None = None  # or, instead, models that each leave out another part of the images for validation
    task: Task = "classification"
    objective: str = "accuracy"  # the metric that rules kept epoch and patience
    direction: Direction | None = None  # of the objective, if it is the user's metric
    metrics: list[str] = []  # measured besides the objective and those that always are

    @model_validator(mode="after")
    def _check(self) -> Self:
        chooses = self.training.keep != "last" or self.training.patience is not None
        if self.protocol != "held_out" and chooses:
            raise ValueError(
                f"protocol {self.protocol} watches the test images, so nothing may be chosen by them: give keep: last and no "
                "patience"
            )
        return self

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Self:
        """Return the configuration whose `params()`, as texts, these are; raises ValueError where they are none, NoModel."""
        own = models.arguments(params["model"]) if "model" in params else {}
        words = {name for name, default in own.items() if isinstance(default, str)}
        values: dict[str, Any] = {name: text if name in words else _read(text) for name, text in params.items()}
        known: dict[str, Any] = {name: params[name] for name in ("model", "dataset", "protocol") if name in params}
        known |= {name: values[name] for name in ("seed", "repeats", "folds", "metrics") if name in params}
        known |= {"task": params["task"]} if "task" in params else {}
        if "objective" in params:
            known["objective"], _, direction = params["objective"].partition(" ")
            known |= {"direction": direction} if direction else {}
        training = {name: values[name] for name in TrainingSettings.model_fields if name in values}
        own_names = {*known, *training, "objective"}
        others = {name: value for name, value in values.items() if name not in own_names}
        return cls(**known, hyperparameters=others, training=TrainingSettings(**training))

    @property
    def measured(self) -> list[Metric]:
        """The metrics that are measured: the objective, then those that always are, then the others asked for."""
        names = dict.fromkeys([self.objective, *metrics.ALWAYS[self.task], *self.metrics])
        return [metrics.get(name, self.direction if name == self.objective else None) for name in names]

    def changed_arguments(self) -> dict[str, Any]:
        """Return the hyperparameters that differ from the model's own values."""
        own = models.arguments(self.model)
        return {name: value for name, value in self.hyperparameters.items() if name not in own or value != own[name]}

    def seeds(self) -> list[int]:
        """Return the seed of each model that the run trains; the first is the run's own."""
        others = np.random.SeedSequence(self.seed).generate_state(self.folds or self.repeats)
        return [self.seed, *(int(seed) for seed in others[1:])]

    def fingerprint(self) -> str:
        """Return all that decides a result but the examples, whose digest is to stand beside it, as a text."""
        own = not isinstance(self.dataset, KnownDataset)
        return self.model_dump_json(exclude_defaults=True, exclude={"dataset"} if own else None)

    def params(self) -> dict[str, Any]:
        """Return everything as flat names and values, for tracking."""
        objective = " ".join(filter(None, (self.objective, self.direction)))
        return {
            "model": self.model,
            "dataset": as_text(self.dataset),
            **({"protocol": self.protocol} if self.protocol != "held_out" else {}),
            "seed": self.seed,
            **({"repeats": self.repeats} if self.repeats > 1 else {}),
            **({"folds": self.folds} if self.folds else {}),
            **({"task": self.task} if self.task != "classification" else {}),
            **({"objective": objective} if objective != "accuracy" else {}),
            **({"metrics": self.metrics} if self.metrics else {}),
            **self.hyperparameters,
            **self.training.model_dump(),
        }


def _read(text: str) -> Any:
    """Return the number, truth value or None that `text` stands for, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
