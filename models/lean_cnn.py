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

What the post invites to turn are arguments: the activation, and what follows each of the first three convolutions: max pooling,
average pooling, or batch normalisation in its place (then nothing shrinks the images, and the dense layer sees 12,544 numbers).

Sweep it: make sweep STUDY=lean_cnn (trial 0 is the recipe).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from models import Recipe, Target

if TYPE_CHECKING:
    import keras

Activation = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid"]
Pooling = Literal["max", "average", "batch_norm"]


def build(
    *,
    filters1: int = 32,
    filters2: int = 32,
    filters3: int = 32,
    filters4: int = 16,
    dense: int = 128,
    dropout: float = 0.4,
    l2: float = 1e-3,
    activation: Activation = "relu",
    pooling: Pooling = "max",
) -> keras.Model:
    """Return the uncompiled network: (n, 28, 28, 1) pixels in 0..1 -> (n, 10) class probabilities."""
    import keras
    from keras import layers

    def pool() -> keras.Layer:
        if pooling == "batch_norm":
            return layers.BatchNormalization()
        return {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}[pooling](2)

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(filters1, 3, padding="same", activation=activation),
            pool(),
            layers.Conv2D(filters2, 3, padding="same", activation=activation),
            pool(),
            layers.Conv2D(filters3, 3, padding="same", activation=activation),
            pool(),
            layers.Conv2D(filters4, 3, padding="same", activation=activation),
            layers.Dropout(dropout),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(dense, activation=activation, kernel_regularizer=keras.regularizers.L2(l2)),
            layers.Dropout(dropout),
            layers.Dense(10, activation="softmax"),
        ],
        name="lean_cnn",
    )


RECIPES = {
    "lean_cnn": Recipe(
        training={"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 128, "epochs": 15},
        target=Target(
            accuracy=99.26,
            name="lean CNN, reached",
            source='AI workshop blog, "Entry into convolutional neural networks with Keras"',
            protocol="one run, last of 15 epochs, 54,000 training images, official test set",
        ),
    ),
}
