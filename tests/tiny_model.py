"""A model of a user's own: one small dense layer, with an argument of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras


def build(
    *, units: int = 8, rate: float = 0.1, activation: Literal["relu", "tanh"] = "relu", extra: bool = False
) -> keras.Model:
    """Return the uncompiled network."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(units, activation=activation),
            *([layers.Dense(units, activation=activation)] if extra else []),
            layers.Dropout(rate),
            layers.Dense(10, activation="softmax"),
        ]
    )
