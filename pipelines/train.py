"""One training, epoch by epoch.

The order of images and the dropout masks of an epoch depend on (seed, epoch) alone, so a training that was interrupted goes on
exactly where it stopped. What may end it early is asked of `Control` between epochs.
"""

import enum
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipelines import checkpoint, evaluate
from pipelines.config import TrainingSettings
from pipelines.data import Dataset, Images
from pipelines.evaluate import Floats


class End(enum.StrEnum):
    """Why a training ended."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    BUDGET = "budget"  # used up in mid-training: what there is counts
    PAUSED = "paused"  # goes on later, from its checkpoint
    ABANDONED = "abandoned"  # somebody else has it now: write nothing more

    @property
    def final(self) -> bool:
        """Whether the training is over for good."""
        return self not in (End.PAUSED, End.ABANDONED)


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch: losses in nats, accuracies 0 to 1, the learning rate used, wall seconds with validation."""

    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    epoch_seconds: float

    @property
    def finite(self) -> bool:
        """Whether the losses are numbers; if not, the training diverged."""
        return math.isfinite(self.loss) and math.isfinite(self.val_loss)


class Control(Protocol):
    """What a training asks between epochs. A resumed one tells `after_epoch` again, in order, of every epoch behind it."""

    def before_epoch(self, epoch: int) -> End | None:
        """Return why `epoch` must not begin, or None."""

    def after_epoch(self, epoch: int, metrics: EpochMetrics) -> End | None:
        """Take note of `epoch`; return why the training should end here, or None."""


@dataclass(frozen=True)
class Trained:
    """A training's outcome; the model holds the weights of `kept_epoch` (None: no epoch to keep)."""

    end: End
    history: list[EpochMetrics]
    kept_epoch: int | None


def pixels(images: Images) -> Floats:
    """Return images as (n, 28, 28, 1) floats in 0..1."""
    return images.x.astype(np.float32) / np.float32(255)


def compile_model(model: Any, settings: TrainingSettings) -> None:
    """Give the model its optimizer, loss and metric."""
    import keras

    optimizers = {
        "adam": keras.optimizers.Adam,
        "rmsprop": keras.optimizers.RMSprop,
        "adadelta": keras.optimizers.Adadelta,
        "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=settings.momentum),
    }
    model.compile(
        optimizers[settings.optimizer](settings.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.optimizer.build(model.trainable_variables)


def train(
    model: Any,
    dataset: Dataset,
    settings: TrainingSettings,
    seed: int,
    control: Control,
    checkpoint_path: Path,
    fingerprint: str,
) -> Trained:
    """Train a compiled model, from its checkpoint if there is one, and leave it with the kept weights."""
    x, x_validation = pixels(dataset.train), pixels(dataset.validation)
    history: list[EpochMetrics] = []
    kept: list[Any] = []
    end: End | None = None
    saved = checkpoint.load(checkpoint_path, fingerprint)
    if saved:
        model.set_weights(saved.weights)
        for variable, value in zip(model.optimizer.variables, saved.optimizer, strict=True):
            variable.assign(value)
        kept, history = saved.kept, [EpochMetrics(**metrics) for metrics in saved.history]
        for epoch, metrics in enumerate(history):
            end = control.after_epoch(epoch, metrics)
        end = None if _finished(history, settings) else end

    while end is None and not _finished(history, settings):
        epoch = len(history)
        end = control.before_epoch(epoch)
        if end is not None:
            break
        metrics = _train_epoch(model, x, x_validation, dataset, settings, seed, epoch)
        if metrics.finite:
            history.append(metrics)
            if kept_epoch(history, settings) == epoch:
                kept = model.get_weights()
            optimizer = [np.asarray(variable) for variable in model.optimizer.variables]
            state = checkpoint.State([vars(m) for m in history], model.get_weights(), optimizer, kept)
            checkpoint.save(checkpoint_path, fingerprint, state)
        end = control.after_epoch(epoch, metrics)
        if not metrics.finite:
            end = End.DIVERGED
        elif _finished(history, settings):  # all is paid for already: let it count
            end = None

    if kept:
        model.set_weights(kept)
    return Trained(end or End.COMPLETED, history, kept_epoch(history, settings))


def kept_epoch(history: list[EpochMetrics], settings: TrainingSettings) -> int | None:
    """Return the epoch whose weights are kept: the last, or the first of the highest validation accuracy."""
    if not history:
        return None
    if settings.keep == "last":
        return len(history) - 1
    return _best_epoch(history)


def _best_epoch(history: list[EpochMetrics]) -> int:
    return max(range(len(history)), key=lambda epoch: history[epoch].val_accuracy)


def _finished(history: list[EpochMetrics], settings: TrainingSettings) -> bool:
    if len(history) >= settings.epochs:
        return True
    if settings.patience is None or not history:
        return False
    return len(history) - 1 - _best_epoch(history) >= settings.patience


def _train_epoch(
    model: Any, x: Floats, x_validation: Floats, dataset: Dataset, settings: TrainingSettings, seed: int, epoch: int
) -> EpochMetrics:
    import keras

    began = time.perf_counter()
    order = np.random.default_rng([seed, epoch]).permutation(len(x))
    _seed_random_layers(model, seed, epoch)
    model.optimizer.learning_rate = settings.learning_rate_of(epoch)
    logs = model.fit(
        x[order],
        dataset.train.y[order],
        batch_size=settings.batch_size,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.TerminateOnNaN()],
    ).history
    predicted = evaluate.probabilities(model, x_validation)
    return EpochMetrics(
        loss=float(logs["loss"][-1]),
        accuracy=float(logs["accuracy"][-1]),
        val_loss=evaluate.loss(model, predicted, dataset.validation.y),
        val_accuracy=evaluate.accuracy(predicted, dataset.validation.y),
        learning_rate=settings.learning_rate_of(epoch),
        epoch_seconds=time.perf_counter() - began,
    )


def _seed_random_layers(model: Any, seed: int, epoch: int) -> None:
    states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    for index, state in enumerate(states):
        state.assign(np.random.SeedSequence([seed, epoch, index]).generate_state(2, np.uint32))
