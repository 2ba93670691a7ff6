"""The one visual language of all figures: colours, type, canvas, mosaics. Nothing here touches pyplot's global state.

The colours are Okabe and Ito's palette, which colour-blind readers can tell apart; what is wrong is its vermilion, and is also
told by its place or a mark.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipelines.datasets import Bytes
from pipelines.errors import UserError, first_line, of_the_machine, traceback_of
from pipelines.images import Floats

BLUE, RED, GREEN, FAINT = "#0072B2", "#D55E00", "#009E73", "#999999"
TRAINING, VALIDATION, WRONG = BLUE, RED, RED
INK, SIGNED, COUNTS, STRENGTH = "gray", "PuOr_r", "Oranges", "viridis"  # colour maps: images, signs, errors, responses
WIDTH = 8.2  # inches: 900 pixels, about what the MLflow UI has for an image
SHEET = {
    "figure.dpi": 110,
    "savefig.dpi": "figure",
    "savefig.bbox": "standard",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "image.interpolation": "nearest",
    "image.cmap": INK,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 3,
}


@contextmanager
def sheet() -> Iterator[None]:
    """Let what is drawn obey the style sheet; also a decorator."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(SHEET)  # type: ignore[arg-type]
        yield


def canvas(height: float, title: str, note: str = "") -> Figure:
    """Return an empty figure (inches) that says in its `title` what is seen; `note`: what to know when reading it."""
    figure = Figure(figsize=(WIDTH, height))
    figure.text(0.1 / WIDTH, 1 - 0.08 / height, title, fontsize=11, va="top")
    if note:
        figure.text(0.1 / WIDTH, 0.06 / height, note, fontsize=8, va="bottom", color="#555555")
    return figure


def place(
    figure: Figure, rows: int, columns: int, left: float, right: float, bottom: float, top: float, **gaps: Any
) -> NDArray[Any]:
    """Return axes in a grid (rows, columns), its margins in inches: laid out by hand, which takes half the time."""
    width, height = figure.get_size_inches()
    edges = {"left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height}
    return figure.subplots(rows, columns, squeeze=False, gridspec_kw=edges | gaps)


class Drawn:
    """What was drawn into a folder: a figure that cannot be is noted, for it must never cost a run."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.failed: list[str] = []  # which, and why
        self.seconds = 0.0  # spent on all

    def draw(self, path: Path, figure: Callable[[], Figure | Image.Image]) -> None:
        """Write a figure to a PNG file; raises only what is the machine's fault, such as a full disk."""

        def write() -> None:
            with sheet():
                drawn = figure()
                drawn.savefig(path) if isinstance(drawn, Figure) else drawn.save(path)

        self.attempt(path, write)

    def attempt(self, path: Path, work: Callable[[], object]) -> None:
        """Do what the figure at `path` needs; raises only what is the machine's fault."""
        began, name = time.perf_counter(), path.relative_to(self._root)
        try:
            work()
        except UserError as error:
            self.failed.append(f"{name}: {error}")
        except Exception as error:
            if of_the_machine(error):
                raise
            path.unlink(missing_ok=True)
            self.failed.append(f"{name}: {type(error).__name__}: {first_line(error)}")
            print(f"figure {name} cannot be drawn:\n{traceback_of(error)}")
        self.seconds += time.perf_counter() - began


def bare(axes: Axes) -> None:
    """Take ticks, frame and grid from axes that show an image."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def as_seen(images: Bytes | Floats) -> NDArray[Any]:
    """Return images (n, height, width, channels) as they are drawn: (n, height, width), or (n, height, width, 3) in colour.

    What is light on black, as digits in MNIST are, becomes ink on paper.
    """
    if images.shape[-1] > 1:
        return images[..., :3]
    return 255 - images[..., 0] if is_ink(images) else images[..., 0]


def is_ink(images: Bytes | Floats) -> bool:
    """Whether images (n, height, width, channels) are grey, and light on black."""
    edges = images[:, [0, -1]].reshape(-1), images[:, :, [0, -1]].reshape(-1)
    return images.shape[-1] == 1 and float(np.median(np.concatenate(edges))) == 0


def thumbnails(images: Bytes, side: int) -> Bytes:
    """Return images (n, height, width, channels) made smaller by a whole number, so that none is larger than `side` by much."""
    n, height, width, channels = images.shape
    by = max(1, round(max(height, width) / side))
    cut = images[:, : height // by * by, : width // by * by]
    blocks = cut.reshape(n, height // by, by, width // by, by, channels)
    return np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8) if by > 1 else images


def mosaic(images: Bytes | Floats, columns: int) -> NDArray[Any]:
    """Return images (n, height, width) or (n, height, width, 3) side by side in one, row by row, on white.

    Matplotlib draws one image faster than many small ones.
    """
    n, height, width, *colours = images.shape
    rows = -(-n // columns)
    cells = np.full((rows * columns, height, width, *colours), 255, images.dtype)
    cells[:n] = images
    sides = rows * height, columns * width
    return cells.reshape(rows, columns, height, width, *colours).swapaxes(1, 2).reshape(*sides, *colours)
