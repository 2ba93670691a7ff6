"""What a trained model gets right and wrong on the test images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.data import Bytes
from pipelines.figures.style import BLUE, COUNTS, FAINT, WRONG, bare, canvas, mosaic, place, sheet
from pipelines.images import SIDE, Floats

TILES, TILES_A_ROW = 60, 12
UNDER, BESIDE = 21, 7  # pixels of paper between them
BINS = 10  # of confidence


@sheet()
def confusion(predicted: Floats, labels: Bytes, classes: Sequence[str]) -> Figure:
    """Draw how many images (n, 10 probabilities) of each class were taken for each; coloured are the errors."""
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, predicted.argmax(axis=1)), 1)
    errors = counts - np.diag(counts.diagonal())
    title = f"{errors.sum():,} of {len(labels):,} test images are wrong"
    if errors.any():
        true, taken = np.unravel_index(errors.argmax(), errors.shape)
        title += f"; most often {classes[true]} is taken for {classes[taken]} ({errors.max()} times)"
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


@sheet()
def wrong_images(predicted: Floats, images: Bytes, labels: Bytes, classes: Sequence[str]) -> Figure:
    """Draw the wrong test images (n, 28, 28, 1), the surest first, in red; then the least sure of the right ones."""
    taken, sure = predicted.argmax(axis=1), predicted.max(axis=1)
    wrong = np.flatnonzero(taken != labels)
    right = np.flatnonzero(taken == labels)
    order = np.concatenate([wrong[np.argsort(-sure[wrong])], right[np.argsort(sure[right])]])[:TILES]
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
    colours = np.array([to_rgb(ink) for ink in inks])[:, np.newaxis, np.newaxis]
    paper = np.rint(255 - images[order] * (1 - colours)).astype(np.uint8)  # (n, 28, 28, 3)
    framed = np.pad(paper, ((0, 0), (0, UNDER), (0, BESIDE), (0, 0)), constant_values=255)
    _, high, wide, _ = framed.shape
    whole = mosaic(framed, TILES_A_ROW)
    axes.imshow(whole, extent=(0, whole.shape[1], whole.shape[0], 0))
    for position, (index, ink) in enumerate(zip(order, inks, strict=True)):
        row, column = divmod(position, TILES_A_ROW)
        said = f"{classes[taken[index]]}  {100 * sure[index]:.0f} %"
        if taken[index] != labels[index]:
            said += f"\nis {classes[labels[index]]}"
        axes.text(wide * column + SIDE / 2, high * row + SIDE + 2, said, ha="center", va="top", fontsize=8, color=ink)
    axes.set_xlim(-BESIDE / 2, wide * TILES_A_ROW - BESIDE / 2)
    bare(axes)
    return figure


@sheet()
def classes_and_calibration(predicted: Floats, labels: Bytes, classes: Sequence[str]) -> Figure:
    """Draw the accuracy of each class and of each range of confidence, with 95 % Wilson intervals."""
    right = predicted.argmax(axis=1) == labels
    sure = predicted.max(axis=1)
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    filled = np.unique(bins)
    gap = sum(abs(right[bins == b].mean() - sure[bins == b].mean()) * (bins == b).mean() for b in filled)
    figure = canvas(
        3.9,
        f"Accuracy by class and by confidence: {100 * right.mean():.2f} % of {len(labels):,} test images are right",
        "Bars: 95 % intervals (Wilson) for this model on further images, not for other seeds. Small numbers: images.",
    )
    ((by_class, by_confidence),) = place(figure, 1, 2, 0.95 if _short(classes) else 1.4, 0.2, 0.8, 0.7, wspace=0.35)
    _intervals(by_class, [right[labels == c] for c in range(len(classes))], range(len(classes)), horizontal=True)
    by_class.axvline(100 * right.mean(), color=FAINT, ls=":")
    by_class.set_yticks(range(len(classes)), classes)
    by_class.invert_yaxis()
    by_class.set(xlabel="accuracy (%); dotted: all classes", ylabel="true class", title="by class")
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
