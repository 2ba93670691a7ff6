"""How the learning rate falls: of each epoch, a function of settings and history, and of each batch in it, of its number.

Batches are counted by the optimizer: a hundred of them go to one call of the backend, so no callback sees each. Warm-up and
horizon are epochs, so that they mean the same for any batch size and number of images; `epochs` itself may change, as when a
chosen configuration is trained to its end, and the curve does not.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import options
from pipelines.config import TrainingSettings

BY_BATCH = ("cosine", "linear")


def rate_of(settings: TrainingSettings, history: Sequence[Any]) -> float:
    """Return the learning rate of the epoch that follows `history` (`EpochMetrics`), but for what changes within it."""
    if settings.schedule == "exponential":
        return settings.learning_rate_of(len(history))
    if settings.schedule == "plateau":
        return _of_plateau(settings, history)
    return settings.learning_rate


def changes_within_epochs(settings: TrainingSettings) -> bool:
    """Whether the batches of one epoch have different learning rates."""
    return settings.schedule in BY_BATCH or _options(settings)["warmup"] > 0


def schedule(optimizer: Any, settings: TrainingSettings, batches: int) -> None:
    """Let a Keras optimizer compute each batch's learning rate from its number; `batches`: those of an epoch.

    Its variable stays, and holds the epoch's rate: the optimizer's state and its saved form are those of a plain one.
    """
    if not changes_within_epochs(settings):
        return
    from keras import ops

    variable = optimizer._get_current_learning_rate

    def current() -> Any:
        number, rate = (ops.cast(each, "float32") for each in (optimizer._iterations, variable()))
        return ops.cast(_of_batch(ops, settings, rate, number, batches), "float32")

    optimizer._get_current_learning_rate = current


def rates(settings: TrainingSettings, history: Sequence[Any], batches: int) -> NDArray[np.float64]:
    """Return the learning rate of each batch (batches,) of the epoch that follows `history`."""
    rate = np.full(batches, rate_of(settings, history))
    if not changes_within_epochs(settings):
        return rate
    numbers = np.arange(batches) + len(history) * batches
    found: NDArray[np.float64] = _of_batch(np, settings, rate, numbers, batches)
    return found


def _of_batch(numbers: Any, settings: TrainingSettings, rate: Any, number: Any, batches: int) -> Any:
    """Return the learning rate of batch `number`, counted from the first epoch's; `numbers`: numpy or keras.ops."""
    given = _options(settings)
    warmup = given["warmup"] * batches
    found = rate
    if settings.schedule in BY_BATCH:
        share = numbers.clip((number - warmup) / (given["horizon"] * batches - warmup), 0.0, 1.0)
        left = 0.5 * (1 + numbers.cos(math.pi * share)) if settings.schedule == "cosine" else 1 - share
        found = settings.lr_floor + (settings.learning_rate - settings.lr_floor) * left
    return numbers.where(number < warmup, rate * number / warmup, found) if warmup else found


def _of_plateau(settings: TrainingSettings, history: Sequence[Any]) -> float:
    """Return what Keras's ReduceLROnPlateau has made of the learning rate after these epochs."""
    given = _options(settings)
    rate, best, waited, cooling = settings.learning_rate, math.inf, 0, 0
    for metrics in history:
        value = getattr(metrics, given["monitor"])
        if cooling:
            cooling, waited = cooling - 1, 0
        if value < best - given["min_delta"]:
            best, waited = value, 0
        elif not cooling:
            waited += 1
            if waited >= given["patience"] and rate > settings.lr_floor:
                rate, waited, cooling = max(rate * given["factor"], settings.lr_floor), 0, given["cooldown"]
    return rate


def _options(settings: TrainingSettings) -> Mapping[str, Any]:
    return {**options.options_of("schedule", settings.schedule), **settings.options_of("schedule")}
