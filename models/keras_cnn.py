"""Keras's example CNN: two convolutions, one pooling, one dense layer, 600,810 parameters.

Published in a blog post on MNIST with an MLP and a CNN, after the example that shipped with Keras: 99.14 % test accuracy after
12 epochs; Adadelta with the learning rate 1.0 that was Keras's default then (Keras 3 has 0.001), batch 128, pixels divided by
255, all 60,000 training images, test images watched, last epoch.

| layer                       | output     | parameters |
| --------------------------- | ---------- | ---------- |
| Conv 3x3 valid, relu        | 26, 26, 32 | 320        |
| Conv 3x3 valid, relu        | 24, 24, 32 | 9,248      |
| Pool; Dropout 0.25; Flatten | 4,608      |            |
| Dense relu; Dropout 0.5     | 128        | 589,952    |
| Dense softmax               | 10         | 1,290      |

Sweep it: make sweep STUDY=keras_cnn (trial 0 is the recipe); reproduce it: sweep baselines --only keras_cnn
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Activation, Head, Padding, Pooling, Recipe, Target, pooling_layer

if TYPE_CHECKING:
    import keras


def build(
    *,
    filters1: int = 32,
    filters2: int = 32,
    kernel: int = 3,
    padding: Padding = "valid",
    pooling: Pooling = "max",
    pool_size: int = 2,
    dropout1: float = 0.25,
    head: Head = "flatten",
    dense: int = 128,
    dense2: int = 0,
    dropout2: float = 0.5,
    activation: Activation = "relu",
    input_shape: tuple[int, ...] = (28, 28, 1),
    classes: int = 10,
) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities.

    A width of 0 leaves its dense layer out; `dropout1` stands after the pooling, `dropout2` after each dense layer.
    """
    import keras
    from keras import layers

    stride = pool_size if pooling == "stride" else 1
    model = keras.Sequential([keras.Input(input_shape)], name="keras_cnn")
    model.add(layers.Conv2D(filters1, kernel, padding=padding, activation=activation))
    model.add(layers.Conv2D(filters2, kernel, strides=stride, padding=padding, activation=activation))
    if pooling != "stride":
        model.add(pooling_layer(pooling, pool_size))
    model.add(layers.Dropout(dropout1))
    model.add(layers.Flatten() if head == "flatten" else layers.GlobalAveragePooling2D())
    for width in filter(None, (dense, dense2)):
        model.add(layers.Dense(width, activation=activation))
        model.add(layers.Dropout(dropout2))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


RECIPES = {
    "keras_cnn": Recipe(
        training={"optimizer": "adadelta", "learning_rate": 1.0, "batch_size": 128, "epochs": 12},
        targets=[
            Target(
                accuracy=99.14,
                name="Keras's example CNN",
                source="blog post on MNIST with an MLP and a CNN, after Keras's example mnist_cnn",
                conditions="one run, last of 12 epochs, 60,000 training images, test images watched",
            )
        ],
    ),
}
