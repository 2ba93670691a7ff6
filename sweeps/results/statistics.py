"""What a few seeds say: intervals, and where a published number lies. In the unit of what is given."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models import Kind
from pipelines.metrics import ACCURACY, Metric

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
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Summary(n, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd
    of_mean, of_one = reach / n**0.5, reach * (1 + 1 / n) ** 0.5
    return Summary(n, mean, sd, (mean - of_mean, mean + of_mean), (mean - of_one, mean + of_one))


def rounding_of(published: float, kind: Kind) -> float:
    """Return how far from a published number those lie that round to it: 0 unless it was published as rounded."""
    return 0.5 * 10 ** -len(f"{published:g}".partition(".")[2]) if kind == "about" else 0.0


def format_published(published: float, kind: Kind, metric: Metric = ACCURACY) -> str:
    """Return a published value, in the unit in which its metric is shown, as its author gives it."""
    sign = {"printed": "", "about": "about ", "above": "above ", "goal": "goal "}[kind]
    unit = " %" if metric.scale == 100 else ""
    return metric.text(published) if kind == "printed" and unit else f"{sign}{published:g}{unit}"
