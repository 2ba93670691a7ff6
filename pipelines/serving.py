"""A trained model as others use it: with its scaling inside, so that it takes pixels as they are."""

from pathlib import Path
from typing import Any

from pipelines.images import SIDE, Scaling


def load(path: Path, scaling: Scaling) -> Any:
    """Return the Keras model of a file, read in Keras's safe mode: floats in 0..255 (n, 28, 28, 1) -> probabilities (n, 10)."""
    import keras

    trained = keras.saving.load_model(path, compile=False, safe_mode=True)
    layer = keras.layers.Rescaling(1 / scaling.deviation[0])
    if scaling.mean.size > 1:  # each pixel by its own
        layer = keras.layers.Normalization(axis=(1, 2, 3), mean=scaling.mean, variance=scaling.deviation**2)
    return keras.Sequential([keras.Input((SIDE, SIDE, 1)), layer, trained])
