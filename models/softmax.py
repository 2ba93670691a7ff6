"""Softmax regression: one dense layer on the pixels, 7,850 parameters.

Published in Martin Görner's codelab "TensorFlow, Keras and deep learning, without a PhD": about 90 % test accuracy, SGD at
Keras's defaults, pixels divided by 256, all 60,000 training images, test images watched, last epoch. Batch size and epochs are
those of its notebook.

| layer         | output | parameters |
| ------------- | ------ | ---------- |
| Flatten       | 784    |            |
| Dense softmax | 10     | 7,850      |

It has no hyperparameter of its own: sweep its training with make sweep STUDY=softmax; reproduce it with
sweep baselines --only softmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Recipe, Target

if TYPE_CHECKING:
    import keras


def build(*, input_shape: tuple[int, ...] = (28, 28, 1), classes: int = 10) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities."""
    import keras
    from keras import layers

    return keras.Sequential(
        [keras.Input(input_shape), layers.Flatten(), layers.Dense(classes, activation="softmax")], name="softmax"
    )


RECIPES = {
    "softmax": Recipe(
        training={"optimizer": "sgd", "learning_rate": 0.01, "batch_size": 128, "epochs": 10, "pixels": "by_256"},
        targets=[
            Target(
                accuracy=90,
                kind="about",
                name="softmax",
                source='Görner, "TensorFlow, Keras and deep learning, without a PhD"',
                conditions="one run, last of 10 epochs, 60,000 training images, test images watched",
            )
        ],
    ),
}
