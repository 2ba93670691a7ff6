"""Mixup: training on blends of two examples and of their labels (Zhang, Cisse, Dauphin, Lopez-Paz 2018)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Blends:
    """For each position of an epoch, the one of the same batch that it is blended with, and its own share: (n,) each."""

    partners: NDArray[np.int64]
    shares: Floats

    def of(self, rows: slice, at: Callable[[NDArray[np.int64]], Any]) -> Any:
        """Return the blends of the examples at some positions; `at` returns those at any: an array, or one an input by name."""
        own, partners = np.arange(len(self.partners))[rows], self.partners[rows]
        both, places = np.unique(np.concatenate([own, partners]), return_inverse=True)  # in a batch, all are its own

        def blended(found: NDArray[Any]) -> Floats:
            return self._blended(rows, found[places[: len(own)]], found[places[len(own) :]])

        found = at(both)
        return {name: blended(x) for name, x in found.items()} if isinstance(found, Mapping) else blended(found)

    def _blended(self, rows: slice, own: NDArray[Any], partners: NDArray[Any]) -> Floats:
        share = self.shares[rows].reshape(-1, *[1] * (own.ndim - 1))
        blended: Floats = share * own + (1 - share) * partners
        return blended


def draw(n: int, batch: int, alpha: float, seed: int, epoch: int) -> Blends:
    """Return how `n` images are blended, in batches: one share a batch, of Beta(alpha, alpha). Depends on (seed, epoch) alone."""
    draws = np.random.default_rng([seed, epoch, 2])  # 1: distortions
    partners, shares = np.arange(n), np.empty(n, np.float32)
    for begin in range(0, n, batch):
        part = slice(begin, begin + batch)
        shares[part] = draws.beta(alpha, alpha)
        partners[part] = draws.permutation(partners[part])
    return Blends(partners, shares)


class Labels:
    """The blends of an epoch's labels, made when they are asked for: of all at once, those of thousands of classes are large.

    Of `classes`, their shares (n, classes); without any, labels are numbers, and so are their blends.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, blends: Blends, labels: NDArray[Any], classes: int):
        """`labels`: in the epoch's order."""
        self._blends, self._labels, self._classes = blends, labels, classes
        self.shape = (len(labels), classes) if classes else labels.shape

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, rows: slice) -> Floats:
        blended: Floats = self._blends.of(rows, self._shares)
        return blended

    def _shares(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        labels = self._labels[positions]
        if not self._classes:
            return labels
        shares = np.zeros((len(labels), self._classes), np.float32)
        shares[np.arange(len(labels)), labels] = 1
        return shares
