"""Mixup: training on blends of two examples and of their labels (Zhang, Cisse, Dauphin, Lopez-Paz 2018)."""

from collections.abc import Callable
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

    def __call__(self, values: NDArray[Any]) -> Floats:
        """Return the blends of labels as shares of the classes, (n, classes), in the epoch's order."""
        return self._blended(slice(None), values, values[self.partners])

    def of(self, rows: slice, at: Callable[[NDArray[np.int64]], NDArray[Any]]) -> Floats:
        """Return the blends of the examples at some positions; `at` returns those at any."""
        own, partners = np.arange(len(self.partners))[rows], self.partners[rows]
        both, places = np.unique(np.concatenate([own, partners]), return_inverse=True)  # in a batch, all are its own
        found = at(both)
        return self._blended(rows, found[places[: len(own)]], found[places[len(own) :]])

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
