"""Class probabilities of a model, and what they are worth."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.images import Floats

BATCH = 1_000
SMALLEST_PROBABILITY = 1e-7  # Keras clips here too


def probabilities(model: Any, x: Floats) -> Floats:
    """Return class probabilities (n, classes) for images (n, 28, 28, 1), dropout off."""
    parts = [model.predict_on_batch(x[begin : begin + BATCH]) for begin in range(0, len(x), BATCH)]
    return np.concatenate(parts, dtype=np.float32)


def accuracy(predicted: Floats, labels: NDArray[np.uint8]) -> float:
    """Return the share of images whose most probable class is their label, 0 to 1."""
    return float(np.mean(predicted.argmax(axis=1) == labels))


def loss(model: Any, predicted: Floats, labels: NDArray[np.uint8]) -> float:
    """Return mean cross-entropy in nats plus the model's regularisation, as Keras's `evaluate` does."""
    return cross_entropy(predicted, labels) + sum(float(penalty) for penalty in model.losses)


def cross_entropy(predicted: Floats, labels: NDArray[np.uint8]) -> float:
    """Return mean cross-entropy in nats."""
    chosen = predicted[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0)).mean())
