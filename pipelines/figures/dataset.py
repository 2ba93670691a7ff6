"""What a data set looks like: all its images, its classes, and maps of it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipelines.datasets.dataset import Bytes, Dataset, Rows, chunks
from pipelines.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    RED,
    as_seen,
    bare,
    canvas,
    is_ink,
    mosaic,
    place,
    sheet,
    thumbnails,
)

A_CLASS, A_TILE = 30, 28  # images of a class that are shown side by side, and about how many pixels each has
CLASSES = 30  # that are shown
WIDEST = 3_300  # pixels of all images together


def all_images(images: Bytes | Rows, side: int = 28) -> Image.Image:
    """Return every image (n, height, width, channels) in one, in their order, about as many across as down.

    `side`: pixels of each, about; fewer where there are very many.
    """
    columns = int(np.ceil(len(images) ** 0.5))
    side = max(2, min(side, WIDEST // columns))
    small = np.concatenate([thumbnails(chunk, side) for chunk in chunks(images)])
    return Image.fromarray(mosaic(as_seen(small), columns))


@sheet()
def by_class(dataset: Dataset) -> Figure:
    """Draw the first training images of every class, and how many images of it there are to train, validate and test.

    Of very many classes the first ones.
    """
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    classes = dataset.classes[:CLASSES]
    sizes = ", ".join(f"{len(images):,} {part}" for part, images in parts.items())
    named = (
        f"; the first {len(classes)} of {len(dataset.classes)} classes" if len(classes) < len(dataset.classes) else ""
    )
    figure = canvas(max(3.5, 0.35 * len(classes)), f"{dataset.name} by class: {sizes} images{named}")
    left_edge = 0.95 if max(map(len, classes)) < 13 else 1.7
    ((shown, counts),) = place(figure, 1, 2, left_edge, 0.15, 0.5, 0.45, wspace=0.02, width_ratios=[3, 1])
    rows = [
        thumbnails(dataset.train.x[np.flatnonzero(dataset.train.y == label)[:A_CLASS]], A_TILE)
        for label in range(len(classes))
    ]
    ink = is_ink(np.concatenate(rows))
    tiles = [255 - row[..., 0] if ink else as_seen(row) for row in rows]
    _, high, wide, *colours = tiles[0].shape
    tiles = [np.concatenate([row, np.full((A_CLASS - len(row), high, wide, *colours), 255, np.uint8)]) for row in tiles]
    shown.imshow(mosaic(np.concatenate(tiles), A_CLASS), aspect="auto", interpolation="bilinear")
    bare(shown)
    for label, name in enumerate(classes):
        shown.text(-0.7 * wide, high * (label + 0.5), name, ha="right", va="center")
    left = np.zeros(len(classes), int)
    for (part, images), color in zip(parts.items(), (BLUE, RED, GREEN), strict=False):
        count = np.bincount(images.y, minlength=len(dataset.classes))[:CLASSES]
        counts.barh(range(len(classes)), count, left=left, color=color, height=0.7, label=part)
        left += count
    counts.set(ylim=(len(classes) - 0.5, -0.5), yticks=[], xlabel="images")
    counts.locator_params(axis="x", nbins=3)
    figure.legend(*counts.get_legend_handles_labels(), ncols=3, loc="lower left", bbox_to_anchor=(0.1, 0))
    return figure


@sheet()
def maps(
    points: Mapping[str, NDArray[np.floating]], labels: Bytes, wrong: NDArray[np.bool_], classes: Sequence[str]
) -> Figure:
    """Draw maps of the same images, title -> positions (n, 2): coloured and named by class, those taken wrongly crossed."""
    rows = -(-len(points) // 2)
    figure = canvas(
        0.6 + 3.8 * rows,
        f"{len(labels):,} test images, near to each other where they are alike; crosses: the {wrong.sum()} taken wrongly",
        "Colours and names: the true class. The axes of these maps have no unit.",
    )
    colors = class_colors(len(classes))
    for axes, (title, at) in zip(
        place(figure, rows, 2, 0.1, 0.1, 0.3, 0.65, wspace=0.04, hspace=0.12).flat, points.items(), strict=False
    ):
        axes.scatter(*at.T, c=colors[labels], s=1.5, lw=0, rasterized=True)
        axes.scatter(*at[wrong].T, c="black", marker="x", s=14, lw=0.8)
        for label, name in enumerate(classes):
            box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": colors[label], "alpha": 0.85}
            axes.text(*np.median(at[labels == label], axis=0), name, ha="center", va="center", bbox=box, fontsize=8)
        bare(axes)
        axes.set_title(title)
    return figure


def class_colors(n: int) -> NDArray[np.floating]:
    """Return a colour (n, 3) for each class: Okabe and Ito's with a darker yellow, and two more; of many, these again."""
    named = ["#E69F00", "#56B4E9", GREEN, "#C7B300", BLUE, RED, "#CC79A7", "#000000", FAINT, "#8C510A"]
    return np.array(
        [[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in (named * -(-n // len(named)))[:n]]
    )
