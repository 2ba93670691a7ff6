"""From bytes to what a model sees: scaled pixels and, in training alone, distorted images."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import mixup
from pipelines.config import TrainingSettings
from pipelines.datasets.dataset import Bytes, Index, Inputs, Rows, Shape, X, chunks, example_shape

Floats = NDArray[np.float32]
DISTORTIONS = ("rotation", "shift", "shear", "zoom", "flip", "crop")
DIVISORS = {"by_255": 255.0, "by_256": 256.0}


def scaling(pixels: str, training: X) -> "Scaling | ScalingOfInputs":
    """Return how examples are scaled; `training`: those whose mean and deviation `standardized` takes."""
    if isinstance(training, Inputs):
        return ScalingOfInputs({name: Scaling(pixels, x) for name, x in training.by_name.items()})
    return Scaling(pixels, training)


class ScalingOfInputs:
    """How examples of several inputs are scaled: each input by itself."""

    def __init__(self, by_name: "Mapping[str, Scaling]"):
        self.by_name = by_name

    def __call__(self, x: Mapping[str, Any]) -> dict[str, Floats]:
        """Return examples, an array an input, scaled."""
        return {name: scaled(x[name]) for name, scaled in self.by_name.items()}

    def moments(self) -> dict[str, Floats]:
        """Return `mean` and `deviation` of each input, with its name before them."""
        return {f"{name}_{k}": v for name, own in self.by_name.items() for k, v in own.moments().items()}


class Scaling:
    """How bytes are scaled: divided by a number, or each pixel standardised by its mean and deviation over training images.

    Floats are taken as they are, unless they are standardised. `mean` and `deviation`: of the shape of an example, or (1,) where
    all is divided by one number. A pixel that never changes is left at 0.
    """

    def __init__(self, pixels: str, training: "NDArray[Any] | Rows"):
        divisor = DIVISORS.get(pixels, 1) if training.dtype == np.uint8 else 1
        self.standardizes = pixels == "standardized"
        self.mean: Floats = np.zeros(1, np.float32)
        self.deviation: Floats = np.full(1, divisor, np.float32)
        if self.standardizes:
            mean, deviation = _moments(training)
            self.mean = mean.astype(np.float32)
            self.deviation = np.where(deviation > 0, deviation, 1).astype(np.float32)

    def __call__(self, x: "Bytes | Floats | Rows") -> Floats:
        """Return examples, bytes or floats in 0..255, scaled."""
        if not self.standardizes:
            return np.divide(x, self.deviation, dtype=np.float32)  # in one pass
        centred: Floats = x - self.mean
        return np.divide(centred, self.deviation, out=centred)

    def moments(self) -> dict[str, Floats]:
        """Return `mean` and `deviation` by these names."""
        return {"mean": self.mean, "deviation": self.deviation}


def _moments(x: "NDArray[Any] | Rows") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation over examples, of those on disk piece by piece."""
    if not isinstance(x, Rows):
        return x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    mean: NDArray[np.float64] = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in chunks(x)) / len(x)
    squares: NDArray[np.float64] = sum(((chunk - mean) ** 2).sum(axis=0) for chunk in chunks(x)) / len(x)
    return mean, np.sqrt(squares)


class Epoch:
    """What a model sees in one epoch, batch by batch: examples in their order, distorted, blended and scaled.

    All is a function of (seed, epoch), whichever batches are asked for, in whichever order.
    """

    def __init__(
        self,
        x: X,
        order: Index,
        settings: TrainingSettings,
        seed: int,
        epoch: int,
        scaled: Callable[[Any], Any],
    ):
        self._x, self._order, self._scaled = x, order, scaled
        self.shape: Shape = example_shape(x)
        self._maps = affine_maps(len(order), self.shape[:2], settings, seed, epoch) if distorts(settings) else None
        batch, alpha = settings.batch_size, settings.mixup
        self.blends = mixup.draw(len(order), batch, alpha, seed, epoch) if alpha else None

    def __len__(self) -> int:
        return len(self._order)

    def __call__(self, rows: slice) -> Any:
        """Return the examples at these places of the order; of several inputs, each by its name."""
        return self._scaled(self._at(rows) if self.blends is None else self.blends.of(rows, self._at))

    def _at(self, positions: slice | Index) -> Any:
        chosen = self._x[self._order[positions]]
        return chosen if self._maps is None else transformed(chosen, self._maps[positions])


def distorts(settings: TrainingSettings) -> bool:
    """Whether images are distorted in training at all."""
    return any(getattr(settings, name) for name in DISTORTIONS)


def transformed(x: Bytes | Floats, maps: Floats) -> Floats:
    """Return images (n, height, width, channels) each turned, sheared, zoomed, moved and flipped as its map says, in 0..255.

    All of it is one affine map about the image's centre and so one bilinear interpolation: several in a row would blur an image.
    What enters from outside repeats the nearest pixel.
    """
    from keras import ops

    moved: Floats = ops.convert_to_numpy(ops.image.affine_transform(x.astype(np.float32), maps, fill_mode="nearest"))
    return moved


def affine_maps(n: int, size: tuple[int, ...], settings: TrainingSettings, seed: int, epoch: int) -> Floats:
    """Return (n, 8) coefficients: where in an image of `size`, height and width, each pixel comes from, as Keras takes them.

    `n`: the images of the whole epoch, in whose order the maps are.
    """
    height, width = size
    draws = np.random.default_rng([seed, epoch, 1])

    def up_to(limit: float) -> NDArray[np.float64]:
        return draws.uniform(-limit, limit, n)

    angle, shear = np.radians(up_to(settings.rotation)), np.tan(np.radians(up_to(settings.shear)))
    zoom_x, zoom_y = 1 + up_to(settings.zoom), 1 + up_to(settings.zoom)
    shift_x, shift_y = width * up_to(settings.shift), height * up_to(settings.shift)
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros(n)
    # Rotation times shear times zoom; then the centre goes to the centre, moved by the shift.
    xx, xy = cos * zoom_x, (cos * shear - sin) * zoom_y
    yx, yy = sin * zoom_x, (sin * shear + cos) * zoom_y
    centre_x, centre_y = max(width - 1, 1) / 2, max(height - 1, 1) / 2
    x0 = centre_x + shift_x - centre_x * (xx + xy * (centre_y / centre_x))
    y0 = centre_y + shift_y - centre_y * (yx * (centre_x / centre_y) + yy)
    if settings.crop:  # whole pixels, so that nothing is interpolated
        x0, y0 = (each + draws.integers(-settings.crop, settings.crop + 1, n) for each in (x0, y0))
    if settings.flip in ("horizontal", "horizontal_and_vertical"):
        turned = np.where(draws.random(n) < 0.5, -1, 1)
        xx, xy, x0 = xx * turned, xy * turned, np.where(turned < 0, width - 1 - x0, x0)
    if settings.flip in ("vertical", "horizontal_and_vertical"):
        turned = np.where(draws.random(n) < 0.5, -1, 1)
        yx, yy, y0 = yx * turned, yy * turned, np.where(turned < 0, height - 1 - y0, y0)
    return np.stack([xx, xy, x0, yx, yy, y0, zero, zero], axis=1).astype(np.float32)
