"""MLP 512: two wide hidden layers with dropout, 669,706 parameters.

Published in a blog post on MNIST with an MLP and a CNN, after the example that shipped with Keras: 98.43 % test accuracy after
20 epochs; RMSprop at Keras's defaults, batch 128, pixels divided by 255, all 60,000 training images, test images watched, last
epoch.

| layer               | output | parameters |
| ------------------- | ------ | ---------- |
| Flatten             | 784    |            |
| Dense relu; Dropout | 512    | 401,920    |
| Dense relu; Dropout | 512    | 262,656    |
| Dense softmax       | 10     | 5,130      |

Sweep it: make sweep STUDY=mlp_512 (trial 0 is the recipe); reproduce it: sweep baselines --only mlp_512
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Activation, Recipe, Target

if TYPE_CHECKING:
    import keras


def build(
    *,
    dense1: int = 512,
    dense2: int = 512,
    dropout: float = 0.2,
    activation: Activation = "relu",
    batch_norm: bool = False,
    input_shape: tuple[int, ...] = (28, 28, 1),
    classes: int = 10,
) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities.

    A width of 0 leaves its layer out; `batch_norm` stands before each activation, and takes the bias's place.
    """
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input(input_shape), layers.Flatten()], name="mlp_512")
    for width in filter(None, (dense1, dense2)):
        model.add(layers.Dense(width, use_bias=not batch_norm))
        if batch_norm:
            model.add(layers.BatchNormalization())
        model.add(layers.Activation(activation))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


RECIPES = {
    "mlp_512": Recipe(
        training={"optimizer": "rmsprop", "learning_rate": 1e-3, "batch_size": 128, "epochs": 20},
        targets=[
            Target(
                accuracy=98.43,
                name="MLP 512",
                source="blog post on MNIST with an MLP and a CNN, after Keras's example mnist_mlp",
                conditions="one run, last of 20 epochs, 60,000 training images, test images watched",
            )
        ],
    ),
}
