"""What training minimises: a loss of Keras's by its name, with its options, of labels and of logits or probabilities alike."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
from pipelines import evaluate, options
from pipelines.config import TrainingSettings
from pipelines.errors import UserError, first_line, of_the_machine
from pipelines.metrics import Task

LOOKED_AT = 5  # images, to see what a function of the user's returns
Loss = Callable[[Any, Any], Any]  # of labels (n,), or shares of the classes (n, classes), and what a model returns


def is_plain(settings: TrainingSettings) -> bool:
    """Whether training minimises the cross-entropy of the labels as they are: then its loss is that of validation."""
    dense = settings.mixup or any(settings.options_of("loss").values())
    return settings.loss in (options.CROSSENTROPY, "sparse_categorical_crossentropy") and not dense


def differs_by(settings: TrainingSettings) -> list[str]:
    """Return what makes the loss of training another than that of validation, the cross-entropy of labels and probabilities."""
    loss = [] if settings.loss in (options.CROSSENTROPY, "sparse_categorical_crossentropy") else [settings.loss]
    smoothed = ["label smoothing"] if settings.options_of("loss").get("label_smoothing") else []
    mixed, weighted = ["mixup"] if settings.mixup else [], ["class weights"] if settings.class_weight else []
    return [*loss, *smoothed, *mixed, *weighted]


def only_of_classes(settings: TrainingSettings) -> str | None:
    """Return what of the loss a regression cannot have: its name, or options of the default one; None where it can be."""
    if settings.loss == options.CROSSENTROPY:
        return next((f"loss.{name}" for name, value in settings.options_of("loss").items() if value), None)
    return f"loss {settings.loss}" if "categorical" in settings.loss else None


def class_weights(
    settings: TrainingSettings, labels: NDArray[np.integer[Any]], classes: int
) -> dict[int, float] | None:
    """Return the weight of each class in training, as Keras's `fit` takes them; None where all count as they are."""
    if settings.class_weight is None:
        return None
    counts = np.bincount(labels, minlength=classes)
    return {label: len(labels) / (classes * count) for label, count in enumerate(counts.tolist()) if count}


def plain(logits: bool) -> Any:
    """Return the cross-entropy of labels (n,), as Keras's `compile` takes it."""
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True) if logits else "sparse_categorical_crossentropy"


def of(settings: TrainingSettings, logits: bool, outputs: int, task: Task = "classification") -> Any:
    """Return the loss as Keras's `compile` takes it, for a model that returns logits or probabilities; `outputs`: how many.

    Of a regression the mean squared error, if none is named. Raises UserError for a function of the user's that is not a loss.
    """
    if task == "regression":
        return _of_numbers(settings, outputs)
    if is_plain(settings):
        return plain(logits)
    if options.is_function(settings.loss):
        return _of_function(settings, logits, outputs)
    import keras

    name = "categorical_crossentropy" if settings.loss == options.CROSSENTROPY else settings.loss
    kind = getattr(keras.losses, options.loss_class(name))
    own, given = inspect.signature(kind).parameters, settings.options_of("loss")
    knows_logits = "from_logits" in own
    made: Loss = kind(
        **given, **({"from_logits": logits} if knows_logits else {})
    ).call  # a number an image, to be weighted
    made = made if name in options.OF_LABELS else _one_hot(made)
    return _softmax(made) if logits and not knows_logits else made


def _of_numbers(settings: TrainingSettings, outputs: int) -> Any:
    """Return the loss of a regression: of labels as they are, and of what a model returns."""
    import keras

    given = settings.options_of("loss")
    if settings.loss == options.CROSSENTROPY:
        return "mse"
    if options.is_function(settings.loss):
        made = partial(models.function(settings.loss), **given)
        check(made, settings.loss, 0, mixed=False, outputs=outputs)
        return made
    return getattr(keras.losses, options.loss_class(settings.loss))(**given)


def _one_hot(loss: Loss) -> Loss:
    """Return a loss of labels for one of one-hot labels: only in this form has Keras's cross-entropy label smoothing."""
    from keras import ops

    def of_labels(labels: Any, predicted: Any) -> Any:
        if len(labels.shape) == 1 or labels.shape[-1] == 1:
            labels = ops.one_hot(ops.reshape(ops.cast(labels, "int32"), (-1,)), predicted.shape[-1])
        return loss(labels, predicted)

    return of_labels


def _softmax(loss: Loss) -> Loss:
    from keras import ops

    return lambda labels, logits: loss(labels, ops.softmax(logits))


def _of_function(settings: TrainingSettings, logits: bool, classes: int) -> Loss:
    """Return a loss of the user's; one that does not take `from_logits` is given probabilities."""
    function, given = models.function(settings.loss), settings.options_of("loss")
    knows_logits = "from_logits" in inspect.signature(function).parameters
    made = partial(function, **given, **({"from_logits": logits} if knows_logits else {}))

    def of_labels(labels: Any, predicted: Any) -> Any:
        from keras import ops

        if len(labels.shape) == 2 and labels.shape[-1] == 1:  # as Keras hands them on
            labels = ops.reshape(labels, (-1,))
        return made(labels, predicted)

    check(made, settings.loss, classes, mixed=settings.mixup > 0, weighted=settings.class_weight is not None)
    return _softmax(of_labels) if logits and not knows_logits else of_labels


def check(loss: Loss, reference: str, classes: int, mixed: bool, outputs: int = 1, weighted: bool = False) -> None:
    """Raise UserError unless a function returns a loss: a number for each image, or their mean; `mixed`: of mixup's labels.

    Without `classes`, of numbers, `outputs` for each image. `weighted`: by class, image by image.
    """
    from keras import ops

    drawn = np.random.default_rng(0).normal(size=(LOOKED_AT, classes or outputs)).astype(np.float32)
    labels: NDArray[Any] = drawn[::-1]
    predicted = drawn
    if classes:
        plain = np.arange(LOOKED_AT, dtype=np.uint8) % classes
        labels = np.eye(classes, dtype=np.float32)[plain] if mixed else plain
        predicted = evaluate.softmax(drawn)
    try:
        shape = tuple(ops.shape(ops.convert_to_tensor(loss(labels, predicted))))
    except Exception as error:
        if of_the_machine(error):
            raise
        place = models.place_of(error, reference)
        raise UserError(f"loss {reference} raises {type(error).__name__}: {first_line(error)} ({place})") from error
    if shape == () and weighted:
        raise UserError(
            f"loss {reference} returns one number, and class_weight weighs image by image: expected ({LOOKED_AT},)"
        )
    if shape not in ((), (LOOKED_AT,)):
        raise UserError(
            f"loss {reference} returns {shape} for {LOOKED_AT} images of {classes} classes: expected a number for each image, "
            f"({LOOKED_AT},), or one number"
        )
