"""What a data set looks like: all its images, its classes, and maps of it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipelines.data import Bytes, Dataset
from pipelines.figures.style import BLUE, FAINT, GREEN, RED, bare, canvas, mosaic, place, sheet

A_CLASS = 30  # images of a class that are shown side by side


def all_images(images: Bytes, side: int = 28) -> Image.Image:
    """Return every image (n, 28, 28, 1) in one, in their order, about as wide as high; `side`: pixels of each, 28 at most."""
    columns = int(np.ceil(len(images) ** 0.5))
    whole = mosaic(255 - images[..., 0], columns)
    height, width = (length * side // images.shape[1] for length in whole.shape)
    return Image.fromarray(whole).resize((width, height), Image.Resampling.BOX)


@sheet()
def by_class(dataset: Dataset, classes: Sequence[str]) -> Figure:
    """Draw the first training images of every class, and how many images of it there are to train, validate and test."""
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    sizes = ", ".join(f"{len(images):,} {part}" for part, images in parts.items())
    figure = canvas(3.5, f"{dataset.name} by class: {sizes} images")
    ((shown, counts),) = place(figure, 1, 2, 0.95, 0.15, 0.5, 0.45, wspace=0.02, width_ratios=[3, 1])
    rows = [dataset.train.x[dataset.train.y == label][:A_CLASS, ..., 0] for label in range(len(classes))]
    rows = [np.concatenate([row, np.zeros((A_CLASS - len(row), 28, 28), np.uint8)]) for row in rows]
    shown.imshow(mosaic(255 - np.concatenate(rows), A_CLASS), aspect="auto", interpolation="bilinear")
    bare(shown)
    for label, name in enumerate(classes):
        shown.text(-20, 28 * label + 14, name, ha="right", va="center")
    left = np.zeros(len(classes), int)
    for (part, images), color in zip(parts.items(), (BLUE, RED, GREEN), strict=False):
        count = np.bincount(images.y, minlength=len(classes))
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
    """Return a colour (n, 3) for each of up to ten classes: Okabe and Ito's with a darker yellow, and two more."""
    named = ["#E69F00", "#56B4E9", GREEN, "#C7B300", BLUE, RED, "#CC79A7", "#000000", FAINT, "#8C510A"]
    return np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in named[:n]])
