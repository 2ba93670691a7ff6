"""What a trained model gets right and wrong on the test images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.datasets.dataset import Bytes, Rows
from pipelines.figures.style import (
    BLUE,
    COUNTS,
    FAINT,
    RED,
    WRONG,
    as_seen,
    bare,
    canvas,
    is_ink,
    mosaic,
    place,
    sheet,
    thumbnails,
)
from pipelines.images import Floats

TILES, TILES_A_ROW = 60, 12
UNDER, BESIDE = 21 / 28, 7 / 28  # of their height and width: paper between them
TILE = 112  # pixels of each, at most
FEW, PAIRS = 20, 25  # classes that a matrix shows, and pairs that are named where there are more
BINS = 10  # of confidence


@sheet()
def confusion(predicted: Floats, labels: Bytes, classes: Sequence[str], what: str = "images") -> Figure:
    """Draw how many examples (n, classes) of each class were taken for each; coloured are the errors. `what` they are.

    Of more than a few classes, the pairs that are most often confused.
    """
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, predicted.argmax(axis=1)), 1)
    errors = counts - np.diag(counts.diagonal())
    title = f"{errors.sum():,} of {len(labels):,} test {what} are wrong"
    if errors.any():
        true, taken = np.unravel_index(errors.argmax(), errors.shape)
        title += f"; most often {classes[true]} is taken for {classes[taken]} ({errors.max()} times)"
    if len(classes) > FEW:
        return _most_confused(errors, title, classes, what)
    figure = canvas(5.6, title)
    ((axes,),) = place(figure, 1, 1, 1.3 if _short(classes) else 1.9, 0.3, 0.6 if _short(classes) else 1.0, 0.4)
    axes.imshow(errors, cmap=COUNTS, vmin=0, vmax=max(5, errors.max()))
    axes.grid(False)
    for true, row in enumerate(counts):
        for taken, count in enumerate(row):
            shown = FAINT if true == taken else "white" if count > 0.6 * max(5, errors.max()) else "black"
            if count:
                axes.text(taken, true, f"{count:,}", ha="center", va="center", color=shown)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_xticks(range(len(classes)), classes, **({} if _short(classes) else {"rotation": 40, "ha": "right"}))
    axes.set_yticks(range(len(classes)), classes)
    return figure


def _most_confused(errors: NDArray[Any], title: str, classes: Sequence[str], what: str) -> Figure:
    """Draw how often the pairs of classes are confused that are so most often."""
    order = np.argsort(-errors, axis=None, kind="stable")[:PAIRS]
    pairs = [np.unravel_index(place_, errors.shape) for place_ in order if errors.flat[place_]]
    figure = canvas(
        0.9 + 0.22 * max(1, len(pairs)), title, f"Each bar: {what} of the first class that were taken for the second."
    )
    ((axes,),) = place(figure, 1, 1, 3.2, 0.3, 0.6, 0.4)
    axes.barh(range(len(pairs)), [errors[pair] for pair in pairs], color=RED)
    axes.set_yticks(range(len(pairs)), [f"{classes[true]} → {classes[taken]}" for true, taken in pairs])
    axes.invert_yaxis()
    axes.set(xlabel=f"{what}; the {len(pairs)} pairs of {len(classes):,} classes with the most")
    return figure


def tiles(predicted: Floats, images: Bytes | Rows, labels: Bytes) -> Bytes:
    """Return the images (tiles, height, width, channels) that `wrong_images` shows, none much larger than it shows them."""
    return thumbnails(images[_shown(predicted, labels)], TILE)


def _shown(predicted: Floats, labels: Bytes) -> NDArray[np.int64]:
    """Return which images are shown: the wrong ones, the surest first, and then the least sure of the right ones."""
    taken, sure = predicted.argmax(axis=1), predicted.max(axis=1)
    wrong, right = np.flatnonzero(taken != labels), np.flatnonzero(taken == labels)
    return np.concatenate([wrong[np.argsort(-sure[wrong])], right[np.argsort(sure[right])]])[:TILES]


@sheet()
def wrong_images(predicted: Floats, shown_images: Bytes, labels: Bytes, classes: Sequence[str]) -> Figure:
    """Draw the wrong test images, the surest first, in red; then the least sure of the right ones.

    `predicted` (n, classes) and `labels` (n,) are of all test images, `shown_images` what `tiles` returns of them.
    """
    taken, sure = predicted.argmax(axis=1), predicted.max(axis=1)
    wrong, order = np.flatnonzero(taken != labels), _shown(predicted, labels)
    shown = min(len(wrong), TILES)
    title = f"{len(wrong):,} of {len(labels):,} test images are wrong"
    if len(wrong):
        title += f"; the {shown} of which the model is surest, in red" if shown < len(wrong) else " (red)"
    if least_sure := len(order) - shown:
        ones = "right one" if least_sure == 1 else f"{least_sure} right ones"
        title += f"; then the {ones} of which it is least sure"
    figure = canvas(
        5.1, title, "Below each: the predicted class and its probability; then, where it is wrong, the true class."
    )
    ((axes,),) = place(figure, 1, 1, 0.1, 0.1, 0.25, 0.35)
    inks = [WRONG if taken[index] != labels[index] else "black" for index in order]
    paper = _on_paper(shown_images, inks)
    _, height, width, _ = paper.shape
    under, beside = round(UNDER * height), round(BESIDE * width)
    framed = np.pad(paper, ((0, 0), (0, under), (0, beside), (0, 0)), constant_values=255)
    _, high, wide, _ = framed.shape
    whole = mosaic(framed, TILES_A_ROW)
    axes.imshow(whole, extent=(0, whole.shape[1], whole.shape[0], 0))
    for position, (index, ink) in enumerate(zip(order, inks, strict=True)):
        row, column = divmod(position, TILES_A_ROW)
        said = f"{classes[taken[index]]}  {100 * sure[index]:.0f} %"
        if taken[index] != labels[index]:
            said += f"\nis {classes[labels[index]]}"
        at = wide * column + width / 2, high * row + height * 30 / 28
        axes.text(*at, said, ha="center", va="top", fontsize=8, color=ink)
    axes.set_xlim(-beside / 2, wide * TILES_A_ROW - beside / 2)
    bare(axes)
    return figure


def _on_paper(images: Bytes, inks: Sequence[str]) -> Bytes:
    """Return images (n, height, width, 3): ink on paper in its colour; photographs as they are, within a line of it."""
    colours = np.array([to_rgb(ink) for ink in inks])[:, np.newaxis, np.newaxis]
    if is_ink(images):
        tinted: Bytes = np.rint(255 - images * (1 - colours)).astype(np.uint8)
        return tinted
    seen = as_seen(images)
    tiles = np.array(seen if seen.ndim == 4 else np.repeat(seen[..., np.newaxis], 3, axis=-1))
    for edge in (np.s_[:, :1], np.s_[:, -1:], np.s_[:, :, :1], np.s_[:, :, -1:]):
        tiles[edge] = np.rint(255 * np.broadcast_to(colours, tiles[edge].shape)).astype(np.uint8)
    return tiles


@sheet()
def classes_and_calibration(predicted: Floats, labels: Bytes, classes: Sequence[str], what: str = "images") -> Figure:
    """Draw the accuracy of each class and of each range of confidence, with 95 % Wilson intervals.

    Of more than a few classes, the worst.
    """
    right = predicted.argmax(axis=1) == labels
    sure = predicted.max(axis=1)
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    filled = np.unique(bins)
    gap = sum(abs(right[bins == b].mean() - sure[bins == b].mean()) * (bins == b).mean() for b in filled)
    outcomes = [right[labels == c] for c in range(len(classes))]
    shown = [c for c, outcome in enumerate(outcomes) if len(outcome)]
    if len(classes) > FEW:
        shown = sorted(shown, key=lambda c: outcomes[c].mean())[:FEW]
    names = [classes[c] for c in shown]
    figure = canvas(
        3.9 if len(shown) <= 10 else 5.2,
        f"Accuracy by class and by confidence: {100 * right.mean():.2f} % of {len(labels):,} test {what} are right",
        f"Bars: 95 % intervals (Wilson) for this model on further {what}, not for other seeds. Small numbers: {what}.",
    )
    ((by_class, by_confidence),) = place(figure, 1, 2, 0.95 if _short(names) else 1.4, 0.2, 0.8, 0.7, wspace=0.35)
    _intervals(by_class, [outcomes[c] for c in shown], range(len(shown)), horizontal=True)
    by_class.axvline(100 * right.mean(), color=FAINT, ls=":")
    by_class.set_yticks(range(len(shown)), names)
    by_class.invert_yaxis()
    title = "by class" if len(classes) <= FEW else f"the {len(shown)} worst of {len(classes):,} classes"
    by_class.set(xlabel="accuracy (%); dotted: all classes", ylabel="true class", title=title)
    centres = [100 * sure[bins == b].mean() for b in filled]
    by_confidence.plot([0, 100], [0, 100], ls=":", color=FAINT)
    _intervals(by_confidence, [right[bins == b] for b in filled], centres, horizontal=False)
    for b, centre in zip(filled, centres, strict=True):
        by_confidence.annotate(f"{(bins == b).sum():,}", (centre, 2), ha="center", fontsize=7, color="#555555")
    by_confidence.set(
        xlabel="confidence (probability of the predicted class, %)",
        ylabel="accuracy (%)",
        xlim=(0, 104),
        ylim=(0, 104),
        title=f"expected calibration error: {100 * gap:.2f} points",
    )
    return figure


def _short(classes: Sequence[str]) -> bool:
    return max(map(len, classes)) < 3


def _intervals(axes: Axes, outcomes: Sequence[NDArray[np.bool_]], at: Sequence[float], horizontal: bool) -> None:
    from scipy.stats import binomtest  # takes a second, which a sweep need not wait for to begin

    filled = [(place_, each) for place_, each in zip(at, outcomes, strict=True) if len(each)]
    places, shares = [place_ for place_, _ in filled], [100 * each.mean() for _, each in filled]
    intervals = [binomtest(int(each.sum()), len(each)).proportion_ci(method="wilson") for _, each in filled]
    low, high = [100 * interval.low for interval in intervals], [100 * interval.high for interval in intervals]
    (axes.hlines if horizontal else axes.vlines)(places, low, high, color=BLUE)
    axes.plot(*((shares, places) if horizontal else (places, shares)), "o", ms=4, color=BLUE)
