"""Dense network: two or three hidden layers, 169,670 parameters; with a third layer and dropout 183,770.

Published in Martin Görner's codelab "TensorFlow, Keras and deep learning, without a PhD" as a series of lessons: sigmoid with
SGD converges badly (`dense_sigmoid`); relu with Adam reaches 97 % (`dense_relu`), and is really noisy at ten times its
learning rate (`dense_noisy`); with the learning rate decaying from there it stays above 98 % (`dense_decay`); deeper, with
dropout, it ends slightly lower (`dense_dropout`, 97.75 % in the notebook). Pixels divided by 256, all 60,000 training images,
test images watched, last epoch. Batch size, epochs, and widths and rate of the variant with dropout are those of the notebook.

| layer                | output | parameters | of `dense_dropout`    |
| -------------------- | ------ | ---------- | --------------------- |
| Flatten              | 784    |            |                       |
| Dense sigmoid        | 200    | 157,000    | 200, relu: 157,000    |
| Dense sigmoid        | 60     | 12,060     | 100, relu: 20,100     |
| Dense, if `dense3`   |        |            | 60, relu: 6,060       |
| Dense softmax        | 10     | 610        | 610                   |

Dropout stands after each hidden layer. A width of 0 leaves its layer out. Sweep it: make sweep STUDY=dense (trial 0 is
dense_decay); reproduce all: sweep baselines --only dense_sigmoid --only dense_relu …
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Activation, Recipe, Target

if TYPE_CHECKING:
    import keras


def build(
    *,
    dense1: int = 200,
    dense2: int = 60,
    dense3: int = 0,
    dropout: float = 0.0,
    activation: Activation = "sigmoid",
    batch_norm: bool = False,
    input_shape: tuple[int, ...] = (28, 28, 1),
    classes: int = 10,
) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities."""
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input(input_shape), layers.Flatten()], name="dense")
    for width in filter(None, (dense1, dense2, dense3)):
        model.add(layers.Dense(width, use_bias=not batch_norm))
        if batch_norm:
            model.add(layers.BatchNormalization())
        model.add(layers.Activation(activation))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


_SOURCE = 'Görner, "TensorFlow, Keras and deep learning, without a PhD"'
_CONDITIONS = "one run, last of 10 epochs, 60,000 training images, test images watched"
_COMMON = {"batch_size": 128, "epochs": 10, "pixels": "by_256"}
_DECAY = _COMMON | {"optimizer": "adam", "learning_rate": 0.01, "lr_decay": 0.6}
_DROPOUT = {"dense2": 100, "dense3": 60, "dropout": 0.25, "activation": "relu"}

RECIPES = {
    "dense_sigmoid": Recipe(
        training=_COMMON | {"optimizer": "sgd", "learning_rate": 0.01},
        remark="converges badly: the lesson",
    ),
    "dense_relu": Recipe(
        arguments={"activation": "relu"},
        training=_COMMON | {"optimizer": "adam", "learning_rate": 0.001},
        targets=[Target(accuracy=97, kind="about", name="dense, relu", source=_SOURCE, conditions=_CONDITIONS)],
    ),
    "dense_noisy": Recipe(
        arguments={"activation": "relu"},
        training=_COMMON | {"optimizer": "adam", "learning_rate": 0.01},
        remark="really noisy: the lesson",
    ),
    "dense_decay": Recipe(
        arguments={"activation": "relu"},
        training=_DECAY,
        targets=[Target(accuracy=98, kind="above", name="dense, decay", source=_SOURCE, conditions=_CONDITIONS)],
    ),
    "dense_dropout": Recipe(
        arguments=_DROPOUT,
        training=_DECAY,
        targets=[Target(accuracy=97.75, name="dense, dropout", source=f"{_SOURCE}, notebook", conditions=_CONDITIONS)],
    ),
}
