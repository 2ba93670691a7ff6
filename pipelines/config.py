"""What decides a run: how it is trained, and everything else."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


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
    patience: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better validation accuracy"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="which epoch's weights: best by validation accuracy, or last"
    )

    def learning_rate_of(self, epoch: int) -> float:
        """Return the learning rate of `epoch`, counted from 0."""
        return max(self.learning_rate * self.lr_decay**epoch, self.lr_floor)


class RunConfig(BaseModel):
    """All that decides a run's result: with the code's version and the data set's digest, it can be trained again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    hyperparameters: dict[str, Any]
    dataset: str
    training: TrainingSettings
    seed: int
    repeats: int = 1  # models trained from different seeds; the run's result is their mean
    folds: int | None = None  # or, instead, models that each leave out another part of the images for validation

    def seeds(self) -> list[int]:
        """Return the seed of each model that the run trains; the first is the run's own."""
        others = np.random.SeedSequence(self.seed).generate_state(self.folds or self.repeats)
        return [self.seed, *(int(seed) for seed in others[1:])]

    def params(self) -> dict[str, Any]:
        """Return everything as flat names and values, for tracking."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "seed": self.seed,
            **({"repeats": self.repeats} if self.repeats > 1 else {}),
            **({"folds": self.folds} if self.folds else {}),
            **self.hyperparameters,
            **self.training.model_dump(),
        }
