"""From labels as people keep them to class numbers with names, or to numbers that are to be predicted."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import UserError

MOST_CLASSES = 65_536
FEW = 8  # that are named in a message


def encode(
    labels: NDArray[Any], names: Sequence[str] | None, kind: Literal["classes", "numbers"] | None, where: str
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return labels as class numbers (n,) with the names of the classes, or as numbers (n,) or (n, k) and no names.

    Classes are words, whole numbers, one-hot rows, or any of these in the shape (n, 1); numbers are fractions, or whatever `kind`
    says. `names`: of the classes 0, 1, …, if they are known. Raises UserError for what is neither.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind in "OSU":
        return _of_words(labels, names, kind, where)
    if labels.dtype.kind not in "biuf":
        raise UserError(
            f"{where} are {labels.dtype}: expected class numbers, words, one-hot rows, or numbers to predict"
        )
    bad = int(np.count_nonzero(~np.isfinite(labels))) if labels.dtype.kind == "f" else 0
    if bad:
        raise UserError(f"{where} have {bad:,} that are NaN or infinite: leave those examples out")
    if kind == "numbers" or (
        kind is None and labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels))
    ):
        if labels.ndim > 2:
            raise UserError(
                f"{where} have shape {labels.shape}: expected a number, or a row of numbers, for each example"
            )
        return labels.astype(np.float32), ()
    if labels.ndim == 2:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise UserError(
                f"{where} have shape {labels.shape} and are not one-hot rows: expected one label for each example, or labels: "
                "numbers where these are to be predicted"
            )
        labels = labels.argmax(axis=1)
        names = names or [str(number) for number in range(int(labels.max()) + 1)]
    if labels.ndim != 1:
        raise UserError(f"{where} have shape {labels.shape}: expected one for each example")
    values, numbers = np.unique(labels.astype(np.int64), return_inverse=True)
    if names is not None:
        if values[0] < 0 or values[-1] >= len(names):
            outside = int(values[0] if values[0] < 0 else values[-1])
            raise UserError(
                f"{where} have the class {outside}, and classes has {len(names)} names: expected 0 to {len(names) - 1}"
            )
        return _compact(labels.astype(np.int64), tuple(map(str, names)), where)
    return _compact(numbers, tuple(map(str, values.tolist())), where)


def _of_words(
    labels: NDArray[Any], names: Sequence[str] | None, kind: str | None, where: str
) -> tuple[NDArray[Any], tuple[str, ...]]:
    if kind == "numbers":
        raise UserError(f"{where} are words, and labels: numbers asks for numbers to predict")
    words = [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in labels.ravel().tolist()]
    if labels.ndim != 1 or not all(isinstance(word, str) for word in words):
        raise UserError(f"{where} are neither words nor numbers: expected one label for each example")
    known = list(names) if names is not None else sorted(set(words))
    number_of = {name: number for number, name in enumerate(known)}
    unknown = sorted(set(words) - number_of.keys())
    if unknown:
        raise UserError(f"{where} have {unknown[0]!r}, which is not among classes: {', '.join(known[:FEW])}")
    return _compact(np.array([number_of[word] for word in words]), tuple(known), where)


def _compact(numbers: NDArray[Any], names: tuple[str, ...], where: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    if len(names) < 2:
        raise UserError(f"{where} have one class only ({names[0]!r}): expected at least two")
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"{where} have {len(names):,} different values: expected at most {MOST_CLASSES:,} classes, or labels: numbers where "
            "these are to be predicted"
        )
    return numbers.astype(np.uint8 if len(names) <= 256 else np.uint16), names
