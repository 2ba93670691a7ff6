"""MLP 70-30: two small hidden layers, 57,390 parameters.

Published in the anracom blog's series "A simple CNN for the MNIST datasets": over 97.7 % test accuracy after 35 epochs, almost
98 % when tuned; last epoch. Its settings are not printed: sigmoid, Adam, batch 128, pixels divided by 255, all 60,000 training
images are chosen here.

| layer         | output | parameters |
| ------------- | ------ | ---------- |
| Flatten       | 784    |            |
| Dense sigmoid | 70     | 54,950     |
| Dense sigmoid | 30     | 2,130      |
| Dense softmax | 10     | 310        |

Sweep it: make sweep STUDY=mlp_70_30 (trial 0 is the recipe); reproduce it: sweep baselines --only mlp_70_30
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Activation, Recipe, Target

if TYPE_CHECKING:
    import keras


def build(
    *,
    dense1: int = 70,
    dense2: int = 30,
    activation: Activation = "sigmoid",
    dropout: float = 0.0,
    l2: float = 0.0,
    input_shape: tuple[int, ...] = (28, 28, 1),
    classes: int = 10,
) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities.

    A width of 0 leaves its layer out; `dropout` stands after each hidden layer, `l2` regularises its weights.
    """
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input(input_shape), layers.Flatten()], name="mlp_70_30")
    for width in filter(None, (dense1, dense2)):
        model.add(layers.Dense(width, activation=activation, kernel_regularizer=keras.regularizers.L2(l2)))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


_SOURCE = 'anracom blog, "A simple CNN for the MNIST datasets", I'
_CONDITIONS = "one run, last of 35 epochs"

RECIPES = {
    "mlp_70_30": Recipe(
        training={"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 128, "epochs": 35},
        targets=[Target(accuracy=97.7, kind="above", name="MLP 70-30", source=_SOURCE, conditions=_CONDITIONS)],
        remark="training settings chosen here; almost 98 % when tuned",
    ),
}
