"""A trained model, read back; and as others use it: with its scaling inside, so that it takes pixels as they are."""

from pathlib import Path
from typing import Any

import models
from pipelines import evaluate
from pipelines.images import Scaling, ScalingOfInputs
from pipelines.metrics import Task


def load(path: Path, name: str) -> Any:
    """Return the Keras model of a file that model `name` made, read in Keras's safe mode, which runs no code of the file's."""
    import keras

    return keras.saving.load_model(path, models.custom_objects(name), compile=False, safe_mode=True)


def with_scaling(trained: Any, scaling: Scaling | ScalingOfInputs, task: Task = "classification") -> Any:
    """Return a Keras model with its scaling inside: examples as they are kept, as floats -> class probabilities (n, classes).

    Of a regression, the values that it predicts. Several inputs are taken by their names.
    """
    import keras

    ending = [keras.layers.Softmax()] if task == "classification" and evaluate.gives_logits(trained) else []
    if isinstance(scaling, Scaling):
        return keras.Sequential([keras.Input(trained.inputs[0].shape[1:]), _layer(scaling), trained, *ending])
    inputs = {name: keras.Input(shape, name=name) for name, shape in evaluate.inputs_of(trained).items()}
    outputs = trained({name: _layer(own)(inputs[name]) for name, own in scaling.by_name.items()})
    for layer in ending:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def _layer(scaling: Scaling) -> Any:
    """Return the layer that scales one input."""
    import keras

    if scaling.standardizes:  # each pixel by its own
        axes = tuple(range(1, scaling.mean.ndim + 1))
        return keras.layers.Normalization(axis=axes, mean=scaling.mean, variance=scaling.deviation**2)
    return keras.layers.Rescaling(1 / scaling.deviation[0])
