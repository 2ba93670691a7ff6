"""What happens inside a trained network: kernels, responses, gradients. For Sequential and functional Keras models; all backends.

What lies in a model within the model is one layer here, and not looked into.
Images are (n, height, width, channels), as bytes or as floats in 0..255; the run's scaling is applied here.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import backend, evaluate
from pipelines.datasets.dataset import Bytes, Rows
from pipelines.errors import UserError, nearest
from pipelines.images import Floats, Scaling

STEPS, STEP = 150, 4.0  # of gradient ascent; the step in units of pixel values, of 0 to 255
DRAWS = 200  # of kernels turned at random


class Network:
    """A trained model and the scaling of its pixels."""

    def __init__(self, model: Any, scaling: Scaling):
        self.model, self._scaling = model, scaling
        try:
            _ = [layer.output for layer in model.layers], model.inputs[0]
        except (AttributeError, ValueError) as error:
            raise UserError(
                f"model {model.name!r} is not made of layers that Keras can trace: expected a Sequential or functional model"
            ) from error

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.model.inputs[0].shape[1:]
        return height, width, channels

    @property
    def convolutions(self) -> list[Any]:
        """The model's own Conv2D layers, from the input on."""
        import keras

        return [layer for layer in self.model.layers if isinstance(layer, keras.layers.Conv2D)]

    def feature(self, text: str) -> tuple[Any, int]:
        """Return the layer and the number of the feature map, or unit, that "LAYER:NUMBER" names; raises UserError."""
        layers = {layer.name: layer for layer in self.model.layers if len(layer.weights) and _channels(layer) > 1}
        name, _, number = text.rpartition(":")
        if name not in layers:
            known = ", ".join(layers)
            raise UserError(
                f"--feature {text}: there is no layer {name!r}{nearest(name, layers)}: expected one of {known}"
            )
        channels = _channels(layers[name])
        if not number.isdecimal() or int(number) >= channels:
            raise UserError(f"--feature {text}: expected a number from 0 to {channels - 1} after the colon")
        return layers[name], int(number)

    def probabilities(self, x: "Bytes | Floats | Rows") -> Floats:
        """Return class probabilities (n, classes)."""
        found = self._output(self.model.outputs[0], x)
        return evaluate.softmax(found) if evaluate.gives_logits(self.model) else found

    def responses(self, x: Bytes | Floats) -> list[tuple[str, Floats]]:
        """Return the name of every convolution and its response (n, height, width, filters).

        Behind the layers of normalisation and activation that follow it.
        """
        return [(layer.name, self._output(self._response(layer), x)) for layer in self.convolutions]

    def last_features(self, x: Bytes | Floats) -> Floats:
        """Return what the last layer with weights sees of each image: (n, features)."""
        last = [layer for layer in self.model.layers if layer.weights][-1]
        return self._output(last.input, x).reshape(len(x), -1)

    def first_kernels(self) -> tuple[str, Floats]:
        """Return the first layer's name and its kernels (height, width, filters), those of a dense layer as images.

        Raises UserError where the first layer with weights looks at no image.
        """
        first = next(layer for layer in self.model.layers if layer.weights)
        kernels = np.asarray(first.weights[0])
        if kernels.ndim == 4:
            return first.name, kernels.mean(axis=2)  # over colours
        if kernels.ndim != 2 or len(kernels) != math.prod(self.shape):
            raise UserError(f"the first layer with weights, {first.name!r}, has no kernels that can be shown as images")
        return first.name, kernels.reshape(*self.shape, -1).mean(axis=2)

    def mean_responses(self, layer: Any, x: Bytes | Floats) -> Floats:
        """Return the mean response of every feature map, or unit, of `layer` before its activation: (n, channels)."""
        with _linear(layer):
            response = self._output(layer.output, x)
        means: Floats = response.reshape(len(x), -1, response.shape[-1]).mean(axis=1)
        return means

    def patterns(self, layer: Any, channels: Sequence[int], seed: int) -> Floats:
        """Return the images, in 0..255, that most excite each feature map of `layer`, found by gradient ascent.

        From seeded noise around grey; each step follows the gradient of the map's mean before its activation.
        """
        import keras
        from keras import ops

        part = keras.Model(self.model.inputs[0], layer.output)
        one_each = np.eye(_channels(layer), dtype=np.float32)[list(channels)]

        def excitement(x: Any) -> Any:
            response = part(self._scaled(x), training=False)
            means = ops.mean(ops.reshape(response, (len(channels), -1, one_each.shape[1])), axis=1)
            return ops.sum(ops.multiply(means, one_each))

        noise = np.random.default_rng(seed).normal(128, 12, (len(channels), *self.shape))
        x: Floats = noise.astype(np.float32)
        with _linear(layer):
            for _ in range(STEPS):
                slope = backend.gradient(excitement, x)
                size = np.sqrt((slope**2).mean(axis=(1, 2, 3), keepdims=True))
                x = np.clip(x + STEP * slope / np.maximum(size, 1e-12), 0, 255).astype(np.float32)
        return x

    def saliency(self, x: Bytes, favoured: Bytes, against: Bytes) -> Floats:
        """Return how a brighter pixel moves each image from class `against` to class `favoured`: (n, height, width).

        The gradient of the difference of their scores, before the softmax. Raises UserError where that is no layer's.
        """
        import keras
        from keras import ops

        last = self.model.layers[-1]
        if not isinstance(last, keras.layers.Softmax) and not hasattr(last, "activation"):
            raise UserError(
                f"the model does not end in a layer with a softmax (but in {last.name!r}): no scores to explain"
            )
        # A layer of its own is left out, an activation set aside.
        scored = last.input if isinstance(last, keras.layers.Softmax) else self.model.outputs[0]
        scores = keras.Model(self.model.inputs[0], scored)

        classes = self.model.output_shape[-1]
        sign = (np.eye(classes)[favoured] - np.eye(classes)[against]).astype(np.float32)

        def lead(images: Any) -> Any:
            return ops.sum(ops.multiply(scores(self._scaled(images), training=False), sign))

        with _linear(last):
            slopes: Floats = backend.gradient(lead, x.astype(np.float32)).mean(axis=-1)
            return slopes

    def _response(self, layer: Any) -> Any:
        """Return the output of a layer, after the normalisation and the activation that follow it."""
        import keras

        kinds = ["BatchNormalization", "LayerNormalization", "GroupNormalization"]
        kinds += ["Activation", "ReLU", "LeakyReLU", "PReLU", "ELU"]
        behind = tuple(getattr(keras.layers, kind) for kind in kinds)
        last = layer
        for follower in self.model.layers[self.model.layers.index(layer) + 1 :]:
            if isinstance(follower, behind) and follower.input._keras_history.operation is last:
                last = follower
        return last.output

    def _output(self, output: Any, x: "Bytes | Floats | Rows") -> Floats:
        import keras
        from keras import ops

        part = keras.Model(self.model.inputs[0], output)
        # Not by `predict`, which would compile every part anew.
        batches = (part(self._scaling(x[rows]), training=False) for rows in evaluate.batches(x))
        return np.concatenate([ops.convert_to_numpy(batch) for batch in batches]).astype(np.float32)

    def _scaled(self, x: Any) -> Any:
        from keras import ops

        return ops.divide(ops.subtract(x, self._scaling.mean), self._scaling.deviation)


@dataclass(frozen=True)
class Matched:
    """Kernels of two networks, matched one to one: `pairs` (n, 2) numbers, best first, and their cosines (n,).

    `by_chance`: the mean cosine of the best matching, for each of many draws in which one side's kernels were turned at random.
    """

    pairs: NDArray[np.int64]
    cosines: NDArray[np.float64]
    by_chance: NDArray[np.float64]

    @property
    def p(self) -> float:
        """How likely so high a mean is by chance, from the draws: at least 1 / (draws + 1)."""
        return float((1 + (self.by_chance >= self.cosines.mean()).sum()) / (1 + len(self.by_chance)))


def match(first: Floats, second: Floats, seed: int = 0) -> Matched:
    """Match the kernels (height, width, filters) of two networks so that the sum of their cosines is the greatest.

    By chance: against the second's own kernels, each turned by a multiple of 90 degrees and mirrored at random. They are as
    smooth and as strong as before, so a higher mean of the true ones says that the same kernels were learned. Raises UserError
    for kernels of one pixel, of which turning makes no others.
    """
    if first.shape[0] * first.shape[1] == 1:
        raise UserError("the first layer's kernels are single pixels: there is nothing to compare by turning them")
    pairs, cosines = _assign(first, second)
    order = np.argsort(-cosines)
    draws = np.random.default_rng(seed)
    by_chance = [_assign(first, _turned(second, draws))[1].mean() for _ in range(DRAWS)]
    return Matched(pairs[order], cosines[order], np.array(by_chance))


def _assign(first: Floats, second: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    from scipy.optimize import linear_sum_assignment

    cosines: NDArray[np.float64] = _unit(first).T @ _unit(second)
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return np.stack([rows, columns], axis=1), cosines[rows, columns]


def _unit(kernels: Floats) -> NDArray[np.float64]:
    flat = kernels.reshape(-1, kernels.shape[-1]).astype(np.float64)
    unit: NDArray[np.float64] = flat / np.maximum(np.linalg.norm(flat, axis=0), 1e-12)
    return unit


def _turned(kernels: Floats, draws: np.random.Generator) -> Floats:
    square = kernels.shape[0] == kernels.shape[1]
    turned = []
    for kernel in np.moveaxis(kernels, -1, 0):
        quarters, mirrored = int(draws.integers(4)), draws.integers(2)
        kernel = np.rot90(kernel, quarters if square else 2 * (quarters % 2))
        turned.append(np.fliplr(kernel) if mirrored else kernel)
    return np.stack(turned, axis=-1)


@contextmanager
def _linear(layer: Any) -> Iterator[None]:
    """Let a layer do without its activation for a while: behind one that is saturated, no gradient is left."""
    import keras

    before = getattr(layer, "activation", None)
    if before is None:
        yield
        return
    layer.activation = keras.activations.linear
    try:
        yield
    finally:
        layer.activation = before


def _channels(layer: Any) -> int:
    return int(layer.output.shape[-1])
