"""Chollet's CNN: three small convolutions and one dense layer, 96,844 parameters.

Published in the anracom blog, "A simple CNN for the MNIST datasets", I and II, after François Chollet's book: 99 % test
accuracy in 5 epochs and 20.6 s on its author's GPU; RMSprop, batch 64, last epoch. The author standardised each pixel over all
70,000 images and then reshuffled these into 60,000 to train and 10,000 to test. Here the statistics are those of the training
images alone.

| layer                      | output     | parameters |
| -------------------------- | ---------- | ---------- |
| Conv 3x3 valid, relu; pool | 13, 13, 32 | 320        |
| Conv 3x3 valid, relu; pool | 5, 5, 64   | 18,496     |
| Conv 3x3 valid, relu       | 3, 3, 64   | 36,928     |
| Flatten                    | 576        |            |
| Dense relu                 | 70         | 40,390     |
| Dense softmax              | 10         | 710        |

Sweep it: make sweep STUDY=chollet_cnn (trial 0 is the recipe); reproduce it: sweep baselines --only chollet_cnn
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Activation, Head, Padding, Pooling, Recipe, Target, pooling_layer

if TYPE_CHECKING:
    import keras


def build(
    *,
    filters1: int = 32,
    filters2: int = 64,
    filters3: int = 64,
    kernel: int = 3,
    padding: Padding = "valid",
    pooling: Pooling = "max",
    pool_size: int = 2,
    head: Head = "flatten",
    dense: int = 70,
    dense2: int = 0,
    dropout: float = 0.0,
    activation: Activation = "relu",
    input_shape: tuple[int, ...] = (28, 28, 1),
    classes: int = 10,
) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities.

    A width of 0 leaves its dense layer out; `dropout` stands before the last layer.
    """
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input(input_shape)], name="chollet_cnn")
    for filters in (filters1, filters2):
        stride = pool_size if pooling == "stride" else 1
        model.add(layers.Conv2D(filters, kernel, strides=stride, padding=padding, activation=activation))
        if pooling != "stride":
            model.add(pooling_layer(pooling, pool_size))
    model.add(layers.Conv2D(filters3, kernel, padding=padding, activation=activation))
    model.add(layers.Flatten() if head == "flatten" else layers.GlobalAveragePooling2D())
    for width in filter(None, (dense, dense2)):
        model.add(layers.Dense(width, activation=activation))
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


RECIPES = {
    "chollet_cnn": Recipe(
        training={
            "optimizer": "rmsprop",
            "learning_rate": 1e-3,
            "batch_size": 64,
            "epochs": 5,
            "pixels": "standardized",
        },
        protocol="reshuffled",
        targets=[
            Target(
                accuracy=99,
                kind="about",
                name="Chollet's CNN",
                source='anracom blog, "A simple CNN for the MNIST datasets", I and II',
                conditions="one run, last of 5 epochs, all 70,000 images standardised, then reshuffled into 60,000/10,000",
                seconds=20.6,
            )
        ],
    ),
}
