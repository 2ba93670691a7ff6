"""The inside of a trained network, drawn from what `pipelines.inside` found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.datasets.dataset import Bytes
from pipelines.figures.style import BLUE, FAINT, RED, SIGNED, STRENGTH, as_seen, bare, canvas, is_ink, place, sheet
from pipelines.images import Floats
from pipelines.inside import Matched

KERNELS, KERNELS_A_ROW = 60, 12
FILTERS = 9  # of every convolution


@sheet()
def kernels(name: str, weights: Floats) -> Figure:
    """Draw kernels (height, width, n), each on its own scale, the strongest first."""
    strength = np.sqrt((weights**2).sum(axis=(0, 1)))
    order = np.argsort(-strength)[:KERNELS]
    height, width, n = weights.shape
    rows = -(-len(order) // KERNELS_A_ROW)
    what = f"all {n}" if len(order) == n else f"the {len(order)} strongest of {n}"
    figure = canvas(
        0.75 + 0.72 * rows,
        f"{name}: {what} kernels of {height} x {width} weights, the strongest first",
        "Orange: positive, purple: negative, each on its own scale. Above each: its number.",
    )
    grid = place(figure, rows, KERNELS_A_ROW, 0.1, 0.1, 0.3, 0.5, wspace=0.12, hspace=0.3)
    for axes in grid.flat:
        bare(axes)
    for axes, index in zip(grid.flat, order, strict=False):
        _signed(axes, weights[..., index])
        axes.set_title(str(index), fontsize=7, pad=2)
    return figure


@sheet()
def activations(
    title: str, image: Bytes, responses: Sequence[tuple[str, Floats]], probabilities: Floats, classes: Sequence[str]
) -> Figure:
    """Draw an image (height, width, channels), the responses of each layer's first filters to it, and its classes."""
    height = 2.05 + 0.92 * len(responses)
    figure = canvas(
        height,
        title,
        f"The first {FILTERS} filters of every convolution, each on its own scale: light is a strong response.",
    )
    above = height - 0.4 - 0.95
    shown, bars = place(figure, 1, 2, 0.1, 0.15, above, 0.4, width_ratios=[1, 7], wspace=0.35)[0]
    shown.imshow(as_seen(image[np.newaxis])[0], vmin=0, vmax=255)
    bare(shown)
    colors = [RED if p == probabilities.max() else BLUE for p in probabilities]
    bars.bar(range(len(classes)), 100 * probabilities, color=colors)
    bars.set_xticks(range(len(classes)), classes, fontsize=8)
    bars.set(ylim=(0, 105), ylabel="probability (%)")
    if not responses:
        return figure
    grid = place(figure, len(responses), FILTERS + 1, 0.1, 0.15, 0.3, 1.8, wspace=0.08, hspace=0.25)
    for row, (name, response) in zip(grid, responses, strict=True):
        for axes in row:
            bare(axes)
        side = f"{response.shape[0]} x {response.shape[1]}"
        row[0].text(0.0, 0.5, f"{name}\n{response.shape[2]} of {side}", va="center", fontsize=7)
        for axes, index in zip(row[1:], range(response.shape[2]), strict=False):
            axes.imshow(response[..., index], cmap=STRENGTH)
            axes.set_title(str(index), fontsize=7, pad=2)
    return figure


@sheet()
def codes(pairs: Bytes, noise: Bytes, of_pairs: Floats, of_noise: Floats, layer: str, classes: Sequence[str]) -> Figure:
    """Draw what the last convolution makes of two images of each class, and of noise.

    `pairs`: (classes, 2, height, width, channels); `noise`: two images; codes: the layer's (height, width, filters) of each.
    """
    images = np.concatenate([pairs, noise[np.newaxis]])
    found = np.concatenate([of_pairs, of_noise[np.newaxis]])
    positions, filters = found.shape[2] * found.shape[3], found.shape[4]
    flat = found.reshape(*found.shape[:2], -1)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)
    alike = np.einsum("ik,jk->ij", unit[:, 0], unit[:, 1])
    own = np.diag(alike)[:-1].mean()
    other = alike[:-1, :-1][~np.eye(len(classes), dtype=bool)].mean()
    figure = canvas(
        4.6,
        f"Codes of {layer}: mean cosine {own:.2f} of two images of the same class, {other:.2f} of two classes",
        f"Below each image its code: {filters} filters across, {positions} positions down. On the right: noise.",
    )
    grid = place(figure, 4, len(images), 0.1, 0.1, 0.3, 0.6, wspace=0.15, hspace=0.08, height_ratios=[1, 1.6, 1, 1.6])
    for axes in grid.flat:
        bare(axes)
    seen = as_seen(images.reshape(-1, *images.shape[2:]))
    for column, codes_ in enumerate(found):
        for half in range(2):
            grid[2 * half, column].imshow(seen[2 * column + half], vmin=0, vmax=255)
            code = codes_[half].reshape(positions, filters)
            grid[2 * half + 1, column].imshow(
                code, cmap=STRENGTH, vmin=min(0.0, float(found.min())), vmax=float(found.max()), aspect="auto"
            )
        grid[0, column].set_title([*classes, "noise"][column], loc="center")
    return figure


@sheet()
def patterns(
    layer: str, channels: Sequence[int], images: Floats, reached: Floats, usual: Floats, looked_at: int
) -> Figure:
    """Draw the inputs (n, height, width, channels) that most excite feature maps; their responses: (n,).

    `usual`: the greatest on `looked_at` test images.
    """
    figure = canvas(
        1.75,
        f"{layer}: the inputs that most excite its feature maps, found by gradient ascent from noise",
        f"Above each: its number, its mean response before activation, in brackets the greatest of {looked_at:,} test images.",
    )
    (row,) = place(figure, 1, len(channels), 0.1, 0.1, 0.3, 0.55, wspace=0.12)
    for axes, channel, image, own, greatest in zip(row, channels, images, reached, usual, strict=True):
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image[..., :3] / 255, vmin=0, vmax=255)
        axes.set_title(f"{channel}: {own:.1f} ({greatest:.1f})", fontsize=8, pad=2, loc="center")
        bare(axes)
    return figure


@sheet()
def saliency(images: Bytes, slopes: Floats, taken: Bytes, labels: Bytes, classes: Sequence[str]) -> Figure:
    """Draw images taken wrongly, and what in each speaks for the wrong class against the right one."""
    more = "more ink" if is_ink(images) else "more light"
    figure = canvas(
        2.75,
        f"What speaks for the wrong class: the {len(images)} wrong predictions of which the model is surest",
        f"Orange: {more} here raises the score of the predicted class over the true one's; purple: lowers it.",
    )
    grid = place(figure, 2, len(images), 0.1, 0.1, 0.3, 0.65, wspace=0.1, hspace=0.08)
    seen = as_seen(images)
    for column, (image, slope) in enumerate(zip(images, slopes, strict=True)):
        grid[0, column].imshow(seen[column], vmin=0, vmax=255)
        said = f"{classes[labels[column]]}\nas {classes[taken[column]]}"
        grid[0, column].set_title(said, color=RED, loc="center", pad=2, fontsize=8)
        _signed(grid[1, column], slope)
        grid[1, column].contour(image.mean(axis=-1), levels=[100], colors="black", linewidths=0.5)
    for axes in grid.flat:
        bare(axes)
    return figure


@sheet()
def matched(first: Floats, second: Floats, found: Matched, names: tuple[str, str]) -> Figure:
    """Draw the first-layer kernels (height, width, n) of two networks above each other as matched, and their score."""
    mean, chance = found.cosines.mean(), found.by_chance
    shown = found.pairs[:KERNELS_A_ROW]
    figure = canvas(
        4.2,
        f"Two trainings' first filters, matched: mean cosine {mean:.2f}, by chance {chance.mean():.2f} (p = {found.p:.2f})",
        f"By chance: one side's kernels turned and mirrored at random before matching, {len(chance)} draws.",
    )
    top = place(figure, 2, KERNELS_A_ROW, 1.3, 0.1, 2.35, 0.65, wspace=0.12, hspace=0.1)
    for row, (weights, name) in enumerate(zip((first, second), names, strict=True)):
        top[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for column, pair in enumerate(shown):
            _signed(top[row, column], weights[..., pair[row]])
            if row == 0:
                top[0, column].set_title(f"{found.cosines[column]:.2f}", fontsize=8, pad=2, loc="center")
    for axes in top.flat:
        bare(axes)
    pairs, draws = place(figure, 1, 2, 0.65, 0.15, 0.75, 2.35, wspace=0.25)[0]
    pairs.step(range(1, len(found.cosines) + 1), found.cosines, where="mid", color=BLUE)
    pairs.set(xlabel="pair, the most alike first", ylabel="cosine", ylim=(min(-0.05, *found.cosines), 1.02))
    draws.hist(chance, bins=20, color=FAINT)
    draws.axvline(mean, color=RED)
    draws.set(xlabel="mean cosine; grey: by chance, red: these two", ylabel="draws")
    return figure


def _signed(axes: Any, values: NDArray[np.floating]) -> None:
    limit = max(float(np.abs(values).max()), 1e-12)
    axes.imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit)
