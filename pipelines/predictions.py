"""What is kept of a run's predictions, as arrays by name, and read back: of very many classes only the probable ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.images import Floats

KEPT = 100  # classes of an example: its most probable ones, and the right one; of no more classes, all are kept
CLASSES, OF = "_classes", "_of"  # after a part's name: which classes its probabilities are of, and among how many


def packed(part: str, predicted: Floats, labels: NDArray[Any], regression: bool) -> dict[str, NDArray[Any]]:
    """Return what is kept of the predictions (n, classes) of a part with `labels` (n,); a regression's are kept as they are."""
    if regression or predicted.shape[1] <= KEPT + 1:
        return {part: predicted}
    likeliest = np.argsort(-predicted, axis=1, kind="stable")[:, : KEPT + 1]
    missing = ~(likeliest == labels[:, np.newaxis]).any(axis=1)
    likeliest[missing, -1] = labels[missing]
    values = np.take_along_axis(predicted, likeliest, axis=1)
    return {part: values, f"{part}{CLASSES}": likeliest.astype(np.uint32), f"{part}{OF}": np.array(predicted.shape[1])}


def unpacked(part: str, kept: Mapping[str, NDArray[Any]]) -> Floats:
    """Return the predictions of a part, of all classes: those that were not kept share alike what is left of 1."""
    values: Floats = kept[part]
    if f"{part}{CLASSES}" not in kept:
        return values
    classes = int(kept[f"{part}{OF}"])
    left = (1 - values.sum(axis=1, dtype=np.float64)) / (classes - values.shape[1])
    least = values[:, :-1].min(axis=1, keepdims=True)  # the last may be the right class, however improbable
    whole: Floats = np.empty((len(values), classes), np.float32)
    whole[:] = np.clip(left[:, np.newaxis], 0, least)
    np.put_along_axis(whole, kept[f"{part}{CLASSES}"].astype(np.int64), values, axis=1)
    return whole
