"""What decides a run: how it is trained, and everything else."""

import ast
from collections.abc import Container, Mapping
from typing import Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

import models
from models import Protocol
from pipelines import metrics, options
from pipelines.datasets.spec import KnownDataset, SpecField, as_text
from pipelines.errors import nearest
from pipelines.metrics import Direction, Metric, Task


class TrainingSettings(BaseModel):
    """How a model is trained. Any field can be searched by a study, and any option of those that `options.PARTS` names.

    Options are kept beside the fields, as `optimizer.beta_1`. Settings that earlier versions did not have are written down only
    where they are not at their default, so that what was stored then still compares equal.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, bool | int | float | str | None]

    optimizer: str = Field("adam", description="of keras.optimizers, by its name in lower case")
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    lr_decay: float = Field(
        1.0, gt=0, le=1, description="of exponential: learning rate of epoch e: learning_rate * lr_decay**e"
    )
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
    schedule: Literal["exponential", "cosine", "linear", "plateau"] = Field(
        "exponential", description="how the learning rate falls"
    )
    flip: Literal["horizontal", "vertical", "horizontal_and_vertical"] | None = Field(
        None, description="and one image in two is flipped, each way by itself"
    )
    crop: int = Field(0, ge=0, description="and moved by up to so many whole pixels")
    mixup: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="alpha: how evenly two images are blended; 0 blends none"
    )
    class_weight: Literal["balanced"] | None = Field(
        None, description="balanced: every class counts the same in training, however many images it has"
    )
    mixed_precision: Literal["float16", "bfloat16"] | None = Field(
        None, description="what layers compute in; weights stay float32"
    )
    loss: str = Field(options.CROSSENTROPY, description="what training minimises, of keras.losses by its name")

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        flat = options.flat(given)
        name = flat.get("optimizer")
        rates = options.default_rates()
        if (
            "learning_rate" not in flat and isinstance(name, str) and name != "sgd" and name in rates
        ):  # sgd had another, ever
            flat["learning_rate"] = rates[name]
        return dict(sorted(flat.items()))  # in one order, which fingerprints need

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        extra = self.__pydantic_extra__
        for name in extra:
            if "." not in name or options.part_of(name) is None:
                raise ValueError(f"{name!r} is not a training setting{nearest(name, type(self).model_fields)}")
        for part in options.PARTS:
            given = self.options_of(part)
            options.check(part, getattr(self, part), given)
            for name, value in given.items():
                if type(value) is int and name not in options.WHOLE:  # one number, however it is written
                    extra[f"{part}.{name}"] = float(value)
        if self.momentum and self.options_of("optimizer").get("momentum") is not None and self.optimizer == "sgd":
            raise ValueError("momentum and optimizer.momentum are one thing for sgd: keep one")
        if self.mixup and self.loss in options.OF_LABELS:
            raise ValueError(f"mixup blends labels, which loss {self.loss} cannot take: leave loss out")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = {
            name
            for name, field in type(self).model_fields.items()
            if name not in ALWAYS and getattr(self, name) == field.default
        }
        return {name: value for name, value in dump(self).items() if name not in unused}

    def options_of(self, part: str) -> dict[str, Any]:
        """Return the options given for `optimizer`, `schedule` or `loss`, without its name."""
        own = f"{part}."
        return {
            name.removeprefix(own): value for name, value in (self.model_extra or {}).items() if name.startswith(own)
        }

    def everything(self) -> dict[str, Any]:
        """Return every setting and option, those at their default too; but for options of no default."""
        known = [options.defaults_of(part, getattr(self, part)) for part in options.PARTS]
        return {name: value for own in known for name, value in own.items()} | dict(self)

    def learning_rate_of(self, epoch: int) -> float:
        """Return the learning rate of `epoch`, counted from 0."""
        return max(self.learning_rate * self.lr_decay**epoch, self.lr_floor)


ALWAYS = (  # what stored definitions and runs of every version have
    "optimizer",
    "learning_rate",
    "lr_decay",
    "lr_floor",
    "momentum",
    "batch_size",
    "epochs",
    "pixels",
    "rotation",
    "shift",
    "shear",
    "zoom",
    "patience",
    "keep",
)


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
        training = self.training
        looks = training.schedule == "plateau" and training.everything()["schedule.monitor"] == "val_loss"
        if self.protocol != "held_out" and looks:
            raise ValueError(
                f"protocol {self.protocol} watches the test images, so schedule plateau cannot: give it monitor: loss"
            )
        chooses = training.keep != "last" or training.patience is not None
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
            text, _, direction = params["objective"].rpartition(" ")
            known |= {"objective": text, "direction": direction} if text else {"objective": direction}
        training = {name: value for name, value in values.items() if is_setting(name, own)}
        own_names = {*known, *training, "objective"}
        others = {
            name: value for name, value in values.items() if name not in own_names and name not in models.OF_THE_DATA
        }
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


def is_setting(name: str, arguments: Container[str]) -> bool:
    """Whether a parameter is a training setting, or an option of one, and not one of a model's own `arguments`.

    A model of an earlier version's may have an argument that is called as a setting of today's; it keeps its name.
    """
    if "." in name:
        return options.part_of(name) is not None
    return name in TrainingSettings.model_fields and (name in ALWAYS or name not in arguments)


def _read(text: str) -> Any:
    """Return the number, truth value or None that `text` stands for, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
