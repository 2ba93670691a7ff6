"""Digits from fonts, made as MNIST's were, and what a model takes them for.

The fonts ship with matplotlib. As in MNIST (LeCun et al., 1998), a digit is scaled to fit 20 x 20 pixels, and its centre of mass
lies in the middle of 28 x 28.
"""

import functools
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from pipelines.datasets import Bytes
from pipelines.figures.style import WRONG, bare, canvas, mosaic, place, sheet
from pipelines.images import Floats

FONTS = {
    "DejaVuSans": "DejaVu Sans",
    "DejaVuSans-Bold": "DejaVu Sans bold",
    "DejaVuSans-Oblique": "DejaVu Sans oblique",
    "DejaVuSansMono": "DejaVu Sans Mono",
    "DejaVuSerif": "DejaVu Serif",
    "DejaVuSerif-Italic": "DejaVu Serif italic",
    "STIXGeneral": "STIX",
    "STIXGeneralBol": "STIX bold",
    "STIXGeneralItalic": "STIX italic",
    "cmr10": "Computer Modern",
    "cmss10": "Computer Modern Sans",
    "cmtt10": "Computer Modern Mono",
}
DIGITS, BOX = 10, 20
SIDE = 28
GAP = 5  # pixels between rows in the figure; twice that between columns, for what a digit was taken for
LABELS = np.tile(np.arange(DIGITS, dtype=np.uint8), len(FONTS))  # of `digits()`


@functools.cache
def digits() -> Bytes:
    """Return the digits 0 to 9 of every font, font by font: (fonts * 10, 28, 28, 1) bytes, light on dark."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    drawn = [_digit(ImageFont.truetype(folder / f"{file}.ttf", 80), digit) for file in FONTS for digit in range(DIGITS)]
    return np.stack(drawn)[..., np.newaxis]


def _digit(font: ImageFont.FreeTypeFont, digit: int) -> Bytes:
    large = Image.new("L", (200, 200))
    ImageDraw.Draw(large).text((60, 40), str(digit), fill=255, font=font)
    cut = large.crop(large.getbbox())
    scale = BOX / max(cut.size)
    small = cut.resize([max(1, round(scale * side)) for side in cut.size], Image.Resampling.LANCZOS)
    pixels = np.zeros((3 * SIDE, 3 * SIDE))
    pixels[SIDE : SIDE + small.height, SIDE : SIDE + small.width] = np.asarray(small)
    top, left = (round(c - (SIDE - 1) / 2) for c in ndimage.center_of_mass(pixels))
    return pixels[top : top + SIDE, left : left + SIDE].astype(np.uint8)


@sheet()
def predictions(predicted: Floats) -> Figure:
    """Draw the digits of all fonts with what they were taken for: `predicted` are probabilities (fonts * 10, 10)."""
    taken, images = predicted.argmax(axis=1), digits()
    right = taken == LABELS
    figure = canvas(
        6.6,
        f"Digits from fonts: {right.sum()} of {len(right)} are right; the wrong ones red, with what they were taken for",
        "The model has seen handwriting only. Rendered from fonts that ship with matplotlib, scaled and centred as MNIST is.",
    )
    ((axes,),) = place(figure, 1, 1, 1.7, 0.1, 0.3, 0.35)
    framed = np.pad(255 - images[..., 0], ((0, 0), (0, GAP), (0, 2 * GAP)), constant_values=255)
    _, high, wide = framed.shape
    whole = mosaic(framed, DIGITS)
    axes.imshow(whole, extent=(0, whole.shape[1], whole.shape[0], 0), vmin=0, vmax=255)
    for position in np.flatnonzero(~right):
        row, column = divmod(int(position), DIGITS)
        beside, middle = wide * column + SIDE, high * row + SIDE / 2
        axes.text(beside, middle, str(taken[position]), va="center", fontsize=11, color=WRONG)
    for row, name in enumerate(FONTS.values()):
        count = right[row * DIGITS : (row + 1) * DIGITS].sum()
        axes.text(-GAP, high * row + SIDE / 2, f"{name}\n{count} of {DIGITS}", ha="right", va="center", fontsize=8)
    axes.set_aspect("auto")
    bare(axes)
    return figure
