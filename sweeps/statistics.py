"""What a few seeds say about a mean: intervals, in the unit of what is given."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Several seeds of one configuration.

    `interval`: Student's t interval of the mean; `one_more`: in which one run more would lie (prediction interval). Both are for
    normally distributed values, at `CONFIDENCE`, and None for a single seed.
    """

    n: int
    mean: float
    sd: float | None
    interval: tuple[float, float] | None
    one_more: tuple[float, float] | None


def summary(values: Sequence[float]) -> Summary:
    """Summarise at least one value."""
    from scipy.stats import t  # type: ignore[import-untyped]

    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Summary(n, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd
    of_mean, of_one = reach / n**0.5, reach * (1 + 1 / n) ** 0.5
    return Summary(n, mean, sd, (mean - of_mean, mean + of_mean), (mean - of_one, mean + of_one))
