"""From an image file to bytes, as the eye sees it: turned as its camera says, palettes and CMYK as colours, on paper."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipelines.datasets.dataset import Bytes
from pipelines.errors import UserError, first_line

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
ENDINGS = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp"}
ORIENTATION = 0x0112  # EXIF's tag
WHITE, BLACK = 255, 0


def read(path: Path, shape: tuple[int, int, int], fit: Fit, invert: bool = False, paper: int = WHITE) -> Bytes:
    """Return an image file as bytes of `shape`: (height, width, 1) is grey, (height, width, 3) colour.

    `fit`: how an image of other proportions gets them: its middle (crop), black beside it (pad), or distorted (stretch).
    `invert`: dark becomes light. `paper`: what is transparent, 0 (black) to 255, before that. Raises UserError for what is not
    an image.
    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    try:
        with Image.open(path) as file:
            image = _seen(ImageOps.exif_transpose(file), "L" if channels == 1 else "RGB", paper)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} cannot be read as an image ({first_line(error)}): expected a PNG, JPEG or the like"
        ) from error
    image = ImageOps.invert(image) if invert else image
    fitted = {
        "crop": lambda: ImageOps.fit(image, (width, height)),
        "pad": lambda: ImageOps.pad(image, (width, height)),
        "stretch": lambda: image.resize((width, height)),
    }[fit]()
    return np.asarray(fitted, np.uint8).reshape(shape)


def size_of(path: Path) -> tuple[int, int]:
    """Return height and width of an image file as the eye sees it, from its head alone; raises UserError."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            turned = file.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = file.size
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({first_line(error)})") from error
    return (width, height) if turned else (height, width)


def _seen(image: "Image.Image", mode: str, paper: int) -> "Image.Image":
    """Return an image in 8 bits of grey, or of three colours."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        image = Image.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, (paper, paper, paper, 255))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    return image.convert(mode)
