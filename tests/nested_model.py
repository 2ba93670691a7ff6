"""A model with a model inside."""

from typing import Any


def build(*, units: int = 4) -> Any:
    """Return the uncompiled network."""
    import keras
    from keras import layers

    inside = keras.Sequential([keras.Input((784,)), layers.Dense(units, activation="relu")])
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Flatten(), inside, layers.Dense(10, activation="softmax")]
    )
