"""Mixup: training on blends of two images and of their labels (Zhang, Cisse, Dauphin, Lopez-Paz 2018)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.images import CHUNK, Floats


@dataclass(frozen=True)
class Blends:
    """For each position of an epoch, the one of the same batch that it is blended with, and its own share: (n,) each."""

    partners: NDArray[np.int64]
    shares: Floats

    def __call__(self, values: NDArray[Any]) -> Floats:
        """Return the blends of images, or of labels as shares of the classes, in the epoch's order."""
        blended = np.empty(values.shape, np.float32)
        for begin in range(0, len(values), CHUNK):
            part = slice(begin, begin + CHUNK)
            share = self.shares[part].reshape(-1, *[1] * (values.ndim - 1))
            blended[part] = share * values[part] + (1 - share) * values[self.partners[part]]
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
