"""A trained model, read back; and as others use it: with its scaling inside, so that it takes pixels as they are."""

from pathlib import Path
from typing import Any

import models
from pipelines import evaluate
from pipelines.images import Scaling
from pipelines.metrics import Task


def load(path: Path, name: str) -> Any:
    """Return the Keras model of a file that model `name` made, read in Keras's safe mode, which runs no code of the file's."""
    import keras

    return keras.saving.load_model(path, models.custom_objects(name), compile=False, safe_mode=True)


def with_scaling(trained: Any, scaling: Scaling, task: Task = "classification") -> Any:
    """Return a Keras model with its scaling inside: examples as they are kept, as floats -> class probabilities (n, classes).

    Of a regression, the values that it predicts.
    """
    import keras

    layer = keras.layers.Rescaling(1 / scaling.deviation[0])
    if scaling.standardizes:  # each pixel by its own
        axes = tuple(range(1, scaling.mean.ndim + 1))
        layer = keras.layers.Normalization(axis=axes, mean=scaling.mean, variance=scaling.deviation**2)
    ending = [keras.layers.Softmax()] if task == "classification" and evaluate.gives_logits(trained) else []
    return keras.Sequential([keras.Input(trained.inputs[0].shape[1:]), layer, trained, *ending])
