"""From bytes to what a model sees: scaled pixels and, in training alone, distorted images; and image files."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.config import TrainingSettings
from pipelines.data import Bytes
from pipelines.errors import UserError, first_line

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]
CHUNK = 1_000  # images that are distorted at a time
DIVISORS = {"by_255": 255.0, "by_256": 256.0}
SIDE = 28


def read(path: Path, invert: bool = False) -> Bytes:
    """Return an image file as (28, 28, 1) bytes: grey, its longer side scaled to 28, the rest black.

    `invert`: dark becomes light, as digits are in MNIST. Raises UserError for what is not an image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            grey = _grey(ImageOps.exif_transpose(file), background=255 if invert else 0)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} cannot be read as an image ({first_line(error)}): expected a PNG, JPEG or the like"
        ) from error
    grey = ImageOps.invert(grey) if invert else grey
    return np.asarray(ImageOps.pad(grey, (SIDE, SIDE)), np.uint8)[..., np.newaxis]


def _grey(image: "Image.Image", background: int) -> "Image.Image":
    """Return an image in 8 bits of grey; what is transparent in it is `background`."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        return Image.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, (background, background, background, 255))
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("L")


class Scaling:
    """How pixels are scaled: divided by a number, or each pixel standardised by its mean and deviation over training images.

    `mean` and `deviation`, of bytes: (28, 28, 1) each, or (1,) where all pixels are divided by one number. A pixel that never
    changes is left at 0.
    """

    def __init__(self, pixels: str, training: Bytes):
        self.mean: Floats = np.zeros(1, np.float32)
        self.deviation: Floats = np.full(1, DIVISORS.get(pixels, 1), np.float32)
        if pixels == "standardized":
            self.mean = training.mean(axis=0, dtype=np.float64).astype(np.float32)
            deviation = training.std(axis=0, dtype=np.float64)
            self.deviation = np.where(deviation > 0, deviation, 1).astype(np.float32)

    def __call__(self, x: Bytes | Floats) -> Floats:
        """Return images (n, 28, 28, 1) of bytes, or of floats in 0..255, scaled."""
        if self.mean.size == 1:
            return np.divide(x, self.deviation, dtype=np.float32)  # in one pass
        centred: Floats = x - self.mean
        return np.divide(centred, self.deviation, out=centred)


def distorts(settings: TrainingSettings) -> bool:
    """Whether images are distorted in training at all."""
    affine = settings.rotation or settings.shift or settings.shear or settings.zoom
    return bool(affine or settings.flip or settings.crop)


def distorted(x: Bytes, settings: TrainingSettings, seed: int, epoch: int) -> Bytes | Floats:
    """Return images (n, height, width, channels) each turned, sheared, zoomed, moved and flipped at random, as floats in 0..255.

    All of it is one affine map about the image's centre and so one bilinear interpolation: several in a row would blur them.
    What enters from outside repeats the nearest pixel. The draws depend on (seed, epoch) alone.
    """
    if not distorts(settings):
        return x
    maps = affine_maps(len(x), x.shape[1], x.shape[2], settings, seed, epoch)
    result = np.empty(x.shape, np.float32)
    for begin in range(0, len(x), CHUNK):
        part = slice(begin, begin + CHUNK)
        result[part] = mapped(x[part], maps[part])
    return result


def mapped(x: Bytes, maps: Floats) -> Floats:
    """Return images (n, height, width, channels), each by its own map (n, 8), as floats in 0..255."""
    from keras import ops

    moved: Floats = ops.convert_to_numpy(ops.image.affine_transform(x.astype(np.float32), maps, fill_mode="nearest"))
    return moved


def affine_maps(n: int, height: int, width: int, settings: TrainingSettings, seed: int, epoch: int) -> Floats:
    """Return (n, 8) coefficients: where in an image each pixel of the distorted one comes from, as Keras takes them.

    `n`: the images of the whole epoch, in whose order the maps are.
    """
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
