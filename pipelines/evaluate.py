"""What a model predicts: class probabilities, or the values of a regression. What they are worth: `metrics.py`."""

from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.images import Floats

BATCH = 1_000
LOOKED_AT = 8  # random images, where a model's last layer does not tell what it returns


def probabilities(model: Any, x: Floats, logits: bool = False) -> Floats:
    """Return class probabilities (n, classes) for images (n, 28, 28, 1), dropout off; `logits`: what the model returns.

    Of a regression, the values (n, outputs) that it predicts.
    """
    parts = [model.predict_on_batch(x[begin : begin + BATCH]) for begin in range(0, len(x), BATCH)]
    found = np.concatenate(parts, dtype=np.float32)
    return softmax(found) if logits else found


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
    shape = (LOOKED_AT, *(side or 8 for side in model.inputs[0].shape[1:]))
    outputs = np.asarray(model.predict_on_batch(np.random.default_rng(0).random(shape, np.float32)))
    if np.allclose(outputs.sum(axis=1), 1, atol=1e-3) and outputs.min() >= 0:
        return False
    if outputs.min() >= 0 and outputs.max() <= 1:
        raise UserError(
            f"the outputs of model {model.name} are neither probabilities, which sum to 1, nor logits (its last layer is "
            f"{type(last).__name__}, {activation}): end it with softmax, or without activation"
        )
    return True


def penalty(model: Any) -> float:
    """Return what the model's regularisation adds to its loss, as Keras's `evaluate` does."""
    return sum(float(penalty) for penalty in model.losses)
