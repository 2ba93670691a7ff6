"""Strided CNN: three convolutions, two of them with stride 2 in place of pooling, 354,002 parameters.

Published in Martin Görner's codelab "TensorFlow, Keras and deep learning, without a PhD": close to 99 % test accuracy, about
110 errors; with dropout before the last layer above 99 % (`strided_cnn_dropout`, its rate chosen here). Adam with the learning
rate 0.01 * 0.6**epoch, pixels divided by 256, all 60,000 training images, test images watched, last epoch; batch size and
epochs are the notebook's. The article's first listing (`strided_cnn_valid`, 41,082 parameters) pads nothing and has no hidden
dense layer; no accuracy is printed for it, and global average pooling is named as the alternative to its flatten.

| layer                         | output     | parameters | of `strided_cnn_valid` |
| ----------------------------- | ---------- | ---------- | ---------------------- |
| Conv 3x3 same, relu           | 28, 28, 12 | 120        | 26, 26, 12             |
| Conv 6x6 same, stride 2, relu | 14, 14, 24 | 10,392     | 11, 11, 24             |
| Conv 6x6 same, stride 2, relu | 7, 7, 32   | 27,680     | 3, 3, 32               |
| Flatten                       | 1,568      |            | 288                    |
| Dense relu; Dropout           | 200        | 313,800    |                        |
| Dense softmax                 | 10         | 2,010      | 2,890                  |

Sweep it: make sweep STUDY=strided_cnn (trial 0 is strided_cnn_dropout); reproduce it: sweep baselines --only strided_cnn
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import Activation, Head, Padding, Pooling, Recipe, Target, pooling_layer

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
    padding: Padding = "same",
    pooling: Pooling = "stride",
    head: Head = "flatten",
    dense: int = 200,
    dropout: float = 0.0,
    activation: Activation = "relu",
    input_shape: tuple[int, ...] = (28, 28, 1),
    classes: int = 10,
) -> keras.Model:
    """Return the uncompiled network: (n, *input_shape) scaled pixels -> (n, classes) class probabilities.

    `dense` of 0 leaves the hidden layer out; `pooling` is what the second and third convolution have, or are followed by.
    """
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input(input_shape)], name="strided_cnn")
    model.add(layers.Conv2D(filters1, kernel1, padding=padding, activation=activation))
    for filters, kernel in ((filters2, kernel2), (filters3, kernel3)):
        stride = 2 if pooling == "stride" else 1
        model.add(layers.Conv2D(filters, kernel, strides=stride, padding=padding, activation=activation))
        if pooling != "stride":
            model.add(pooling_layer(pooling))
    model.add(layers.Flatten() if head == "flatten" else layers.GlobalAveragePooling2D())
    if dense:
        model.add(layers.Dense(dense, activation=activation))
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


_SOURCE = 'Görner, "TensorFlow, Keras and deep learning, without a PhD"'
_CONDITIONS = "one run, last of 10 epochs, 60,000 training images, test images watched"
_TRAINING = {
    "optimizer": "adam",
    "learning_rate": 0.01,
    "lr_decay": 0.6,
    "batch_size": 128,
    "epochs": 10,
    "pixels": "by_256",
}

RECIPES = {
    "strided_cnn": Recipe(
        training=_TRAINING,
        targets=[Target(accuracy=98.9, kind="about", name="strided CNN", source=_SOURCE, conditions=_CONDITIONS)],
        remark="close to 99 %: about 110 errors",
    ),
    "strided_cnn_dropout": Recipe(
        arguments={"dropout": 0.3},
        training=_TRAINING,
        targets=[
            Target(accuracy=99, kind="above", name="strided CNN, dropout", source=_SOURCE, conditions=_CONDITIONS)
        ],
        remark="dropout rate chosen here",
    ),
    "strided_cnn_valid": Recipe(
        arguments={"padding": "valid", "dense": 0},
        training=_TRAINING,
        remark="no accuracy printed; training as strided_cnn",
    ),
}
