"""Strided CNN with batch normalisation: 354,538 parameters.

Published in Martin Görner's codelab "TensorFlow, Keras and deep learning, without a PhD": 99.5 % test accuracy, with "a bit of
luck" as its author says. Adam with the learning rate 0.01 * 0.666**epoch, batch 64, pixels divided by 256, all 60,000 training
images, test images watched, last epoch; 15 epochs are the notebook's (10 in its newest revision).

| layer                               | output     | parameters |
| ----------------------------------- | ---------- | ---------- |
| Conv 3x3 same, norm, relu           | 28, 28, 12 | 144        |
| Conv 6x6 same, stride 2, norm, relu | 14, 14, 24 | 10,440     |
| Conv 6x6 same, stride 2, norm, relu | 7, 7, 32   | 27,744     |
| Flatten                             | 1,568      |            |
| Dense, norm, relu; Dropout          | 200        | 314,200    |
| Dense softmax                       | 10         | 2,010      |

Normalised layers have no bias, and the normalisation no scale.
Sweep it: make sweep STUDY=strided_bn_cnn (trial 0 is the recipe); reproduce it: sweep baselines --only strided_bn_cnn
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Activation, Head, Recipe, Target

if TYPE_CHECKING:
    import keras


def build(
    *,
    filters1: int = 12,
    filters2: int = 24,
    filters3: int = 32,
    kernel1: int = 3,
    kernel2: int = 6,
    kernel3: int = 6,
    head: Head = "flatten",
    dense: int = 200,
    dropout: float = 0.3,
    activation: Activation = "relu",
    batch_norm: bool = True,
    input_shape: tuple[int, ...] = (28, 28, 1),
    classes: int = 10,
) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities.

    `dense` of 0 leaves the hidden layer out; without `batch_norm` the layers have their biases.
    """
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input(input_shape)], name="strided_bn_cnn")

    def add(layer: keras.Layer) -> None:
        model.add(layer)
        if batch_norm:
            model.add(layers.BatchNormalization(scale=False))
        model.add(layers.Activation(activation))

    convolutions = ((filters1, kernel1, 1), (filters2, kernel2, 2), (filters3, kernel3, 2))
    for filters, kernel, stride in convolutions:
        add(layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=not batch_norm))
    model.add(layers.Flatten() if head == "flatten" else layers.GlobalAveragePooling2D())
    if dense:
        add(layers.Dense(dense, use_bias=not batch_norm))
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


RECIPES = {
    "strided_bn_cnn": Recipe(
        training={
            "optimizer": "adam",
            "learning_rate": 0.01,
            "lr_decay": 0.666,
            "batch_size": 64,
            "epochs": 15,
            "pixels": "by_256",
        },
        targets=[
            Target(
                accuracy=99.5,
                kind="about",
                name="strided CNN, batch norm",
                source='Görner, "TensorFlow, Keras and deep learning, without a PhD"',
                conditions='one run, "a bit of luck", last of 15 epochs, 60,000 training images, test images watched',
            )
        ],
    ),
}
