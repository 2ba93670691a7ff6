"""What a model predicts: class probabilities, or the values of a regression. What they are worth: `metrics.py`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipelines.datasets.dataset import example_shape, numbers_in
from pipelines.errors import UserError
from pipelines.images import Floats

BATCH, BATCH_BYTES = 1_000, 2**26  # examples that are predicted at a time, and what they take at most
LOOKED_AT = 8  # random images, where a model's last layer does not tell what it returns


def probabilities(model: Any, x: Any, logits: bool = False, scaled: Callable[[Any], Floats] | None = None) -> Floats:
    """Return class probabilities (n, classes) for examples x, dropout off; of a regression, the values that it predicts.

    `logits`: what the model returns. `scaled`: makes of examples as they are kept what the model takes, if x is not that yet.
    """
    parts = [model.predict_on_batch(scaled(x[rows]) if scaled else x[rows]) for rows in batches(x)]
    found = np.concatenate(parts, dtype=np.float32)
    return softmax(found) if logits else found


def batches(x: Any) -> Iterator[slice]:
    """Yield the places of the examples that are predicted at a time."""
    size = max(1, min(BATCH, BATCH_BYTES // (4 * numbers_in(example_shape(x)))))
    yield from (slice(begin, begin + size) for begin in range(0, len(x), size))


def softmax(logits: Floats) -> Floats:
    """Return the class probabilities (n, classes) that logits mean."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def gives_logits(model: Any) -> bool:
    """Whether a Keras model returns logits rather than probabilities: as its last layer says, else as its outputs look.

    Raises UserError for what is neither: numbers between 0 and 1 that do not sum to 1, as sigmoids give.
    """
    import keras

    last = model.layers[-1] if model.layers else None
    activation = getattr(getattr(last, "activation", None), "__name__", None)
    if isinstance(last, keras.layers.Softmax) or activation == "softmax":
        return False
    if isinstance(last, keras.layers.Dense) and activation == "linear":
        return True
    draws = np.random.default_rng(0)
    x = [draws.random((LOOKED_AT, *(side or 8 for side in each.shape[1:])), np.float32) for each in model.inputs]
    outputs = np.asarray(model.predict_on_batch(x if len(x) > 1 else x[0]))
    if np.allclose(outputs.sum(axis=1), 1, atol=1e-3) and outputs.min() >= 0:
        return False
    if outputs.min() >= 0 and outputs.max() <= 1:
        raise UserError(
            f"the outputs of model {model.name} are neither probabilities, which sum to 1, nor logits (its last layer is "
            f"{type(last).__name__}, {activation}): end it with softmax, or without activation"
        )
    return True


def inputs_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of a Keras model's inputs: by its name in the model, or else that of its `keras.Input`."""
    shapes = model.input_shape
    by_name = shapes if isinstance(shapes, dict) else {each.name: each.shape for each in model.inputs}
    return {name: tuple(shape[1:]) for name, shape in by_name.items()}


def penalty(model: Any) -> float:
    """Return what the model's regularisation adds to its loss, as Keras's `evaluate` does."""
    return sum(float(penalty) for penalty in model.losses)
