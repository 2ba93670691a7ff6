"""How a data set is divided: stratified by class, and with what belongs together in one part."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.dataset import Index
from pipelines.errors import UserError, first_line

SEED = 0  # one split for all studies: their validation accuracies stay comparable


def hold_out(
    labels: NDArray[Any], held_out: int, classes: Sequence[str] = (), groups: NDArray[Any] | None = None
) -> tuple[Index, Index]:
    """Return which examples stay and which are held out, about `held_out` of them, each in rising order.

    With `classes`, `labels` are their numbers, and each class is divided alike; the only one of its class stays. `groups`:
    examples of one group stay together. Raises UserError where these are too few, or more classes than are held out.
    """
    from sklearn.model_selection import train_test_split

    n = len(labels)
    if groups is not None:
        number = max(2, round(n / held_out))
        if len(set(groups.tolist())) < number:
            raise UserError(
                f"{len(set(groups.tolist()))} groups cannot be divided so that a part has {held_out:,} of {n:,} examples: "
                f"expected at least {number} groups, or larger parts"
            )
        return _of_groups(labels, groups, number, stratified=bool(classes))[0]
    if not classes:
        kept, held = train_test_split(np.arange(n), test_size=held_out, random_state=SEED)
        return np.sort(kept), np.sort(held)
    counts = np.bincount(labels, minlength=len(classes))
    if held_out < np.count_nonzero(counts):
        raise UserError(
            f"a part of {held_out:,} examples cannot have one of each of {len(classes):,} classes: make it larger"
        )
    if np.count_nonzero(counts[labels] > 1) - held_out < np.count_nonzero(counts > 1):
        raise UserError(
            f"a part of {held_out:,} of {n:,} examples leaves less than one of each of {len(classes):,} classes: make the part "
            "smaller"
        )
    several = np.flatnonzero(counts[labels] > 1)
    only = np.flatnonzero(counts[labels] == 1)
    kept, held = train_test_split(several, test_size=held_out, stratify=labels[several], random_state=SEED)
    return np.sort(np.concatenate([kept, only])), np.sort(held)


def _of_groups(labels: NDArray[Any], groups: NDArray[Any], of: int, stratified: bool) -> list[tuple[Index, Index]]:
    """Return which examples stay and which are held out in each of `of` folds; raises UserError where classes are too small."""
    from sklearn.model_selection import StratifiedGroupKFold

    n = len(labels)
    divide = StratifiedGroupKFold(of, shuffle=True, random_state=SEED)
    try:
        found = [*divide.split(np.zeros(n), labels if stratified else np.zeros(n, int), groups)]
    except ValueError as error:  # of classes that are smaller than the number of parts
        raise UserError(
            f"the groups cannot be divided so that each part has every class ({first_line(error)})"
        ) from error
    return [(np.sort(kept), np.sort(held)) for kept, held in found]


def folds(
    labels: NDArray[Any], number: int, of: int, stratified: bool, groups: NDArray[Any] | None = None
) -> tuple[Index, Index]:
    """Return which examples train and which are held out in fold `number` (from 0): equal for all studies.

    `groups`: examples of one group stay together. Raises UserError where these are too few.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    if groups is not None:
        if len(set(groups.tolist())) < of:
            raise UserError(f"{len(set(groups.tolist()))} groups cannot be divided into {of} folds: give fewer folds")
        return _of_groups(labels, groups, of, stratified)[number]
    divide = (StratifiedKFold if stratified else KFold)(of, shuffle=True, random_state=SEED)
    kept, held = list(divide.split(labels, labels if stratified else None))[number]
    return kept, held
