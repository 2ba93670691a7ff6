"""What training minimises: a loss of Keras's by its name, with its options, of labels and of logits or probabilities alike."""

import inspect
from collections.abc import Callable
from typing import Any

from pipelines import options
from pipelines.config import TrainingSettings

Loss = Callable[[Any, Any], Any]  # of labels (n,), or shares of the classes (n, classes), and what a model returns


def is_plain(settings: TrainingSettings) -> bool:
    """Whether training minimises the cross-entropy of the labels as they are: then its loss is that of validation."""
    return settings.loss in (options.CROSSENTROPY, "sparse_categorical_crossentropy") and not any(
        settings.options_of("loss").values()
    )


def plain(logits: bool) -> Any:
    """Return the cross-entropy of labels (n,), as Keras's `compile` takes it."""
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True) if logits else "sparse_categorical_crossentropy"


def of(settings: TrainingSettings, logits: bool) -> Any:
    """Return the loss as Keras's `compile` takes it, for a model that returns logits or probabilities."""
    if is_plain(settings):
        return plain(logits)
    import keras

    name = "categorical_crossentropy" if settings.loss == options.CROSSENTROPY else settings.loss
    kind = getattr(keras.losses, options.loss_class(name))
    own, given = inspect.signature(kind).parameters, settings.options_of("loss")
    if "from_logits" in own:
        return _dense(kind(from_logits=logits, **given).call)
    made = _dense(kind(**given).call)  # one number an image: class weights multiply them
    return _of_logits(made) if logits else made


def _dense(loss: Loss) -> Loss:
    """Return a loss of labels for one of one-hot labels: only in this form has Keras's cross-entropy label smoothing."""
    from keras import ops

    def of_labels(labels: Any, predicted: Any) -> Any:
        if len(labels.shape) == 1 or labels.shape[-1] == 1:
            labels = ops.one_hot(ops.reshape(ops.cast(labels, "int32"), (-1,)), predicted.shape[-1])
        return loss(labels, predicted)

    return of_labels


def _of_logits(loss: Loss) -> Loss:
    from keras import ops

    return lambda labels, logits: loss(labels, ops.softmax(logits))
