"""Lean CNN: four small convolutions and one regularised dense layer, 43,290 parameters.

Published in the AI workshop blog post "Entry into convolutional neural networks with Keras": goal 99.1 % test accuracy,
reached 99.26 % (loss 0.0415) after 15 epochs on 54,000 images, 6,000 held out for validation; last epoch; 59.3 s.
The post leaves open the optimizer, the batch size, the regulariser and the dropout rates: Adam, 128, L2 1e-3 and 0.4
are chosen here.

| layer                     | output     | parameters |
| ------------------------- | ---------- | ---------- |
| Conv 3x3 same, relu, pool | 14, 14, 32 | 320        |
| Conv 3x3 same, relu, pool | 7, 7, 32   | 9,248      |
| Conv 3x3 same, relu, pool | 3, 3, 32   | 9,248      |
| Conv 3x3 same, relu       | 3, 3, 16   | 4,624      |
| Dropout, Flatten, Dropout | 144        |            |
| Dense relu, L2; Dropout   | 128        | 18,560     |
| Dense softmax             | 10         | 1,290      |

What the post invites to turn are arguments: activation, kernel, dense layers, and what follows each of the first three
convolutions: max pooling, average pooling, a stride of the convolution itself, or batch normalisation in pooling's place (then
nothing shrinks the images, and the dense layer sees 12,544 numbers).

Sweep it: make sweep STUDY=lean_cnn (trial 0 is the recipe); reproduce it: sweep baselines --only lean_cnn
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Activation, Head, Pooling, Recipe, Target, pooling_layer

if TYPE_CHECKING:
    import keras


def build(
    *,
    filters1: int = 32,
    filters2: int = 32,
    filters3: int = 32,
    filters4: int = 16,
    kernel: int = 3,
    pooling: Pooling = "max",
    pool_size: int = 2,
    head: Head = "flatten",
    dense: int = 128,
    dense2: int = 0,
    dropout: float = 0.4,
    l2: float = 1e-3,
    activation: Activation = "relu",
    input_shape: tuple[int, ...] = (28, 28, 1),
    classes: int = 10,
) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities.

    A width of 0 leaves its dense layer out.
    """
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input(input_shape)], name="lean_cnn")
    for filters in (filters1, filters2, filters3):
        stride = pool_size if pooling == "stride" else 1
        model.add(layers.Conv2D(filters, kernel, strides=stride, padding="same", activation=activation))
        if pooling != "stride":
            model.add(pooling_layer(pooling, pool_size))
    model.add(layers.Conv2D(filters4, kernel, padding="same", activation=activation))
    model.add(layers.Dropout(dropout))
    model.add(layers.Flatten() if head == "flatten" else layers.GlobalAveragePooling2D())
    model.add(layers.Dropout(dropout))
    for width in filter(None, (dense, dense2)):
        model.add(layers.Dense(width, activation=activation, kernel_regularizer=keras.regularizers.L2(l2)))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


_SOURCE = 'AI workshop blog, "Entry into convolutional neural networks with Keras"'
_CONDITIONS = "one run, last of 15 epochs, 54,000 training images, official test images"

RECIPES = {
    "lean_cnn": Recipe(
        training={"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 128, "epochs": 15},
        protocol="held_out",
        targets=[
            Target(
                accuracy=99.1,
                name="lean CNN's aim",
                kind="goal",
                source=_SOURCE,
                conditions="a goal, set before training",
            ),
            Target(
                accuracy=99.26,
                name="lean CNN",
                source=_SOURCE,
                conditions=_CONDITIONS,
                loss=0.0415,
                seconds=59.3,
            ),
        ],
        remark="optimizer, batch size, regulariser and dropout chosen here",
    ),
}
