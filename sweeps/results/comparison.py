"""Two configurations side by side: on these test images by their seeds, on others by images, and training against training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics import Direction
from sweeps.results.statistics import ERROR, Interval, t_quantile
from sweeps.results.verdict import FEWEST_SEEDS, together

DRAWS = 10_000  # of means and deviations, for the interval of the chance


@dataclass(frozen=True)
class Comparison:
    """How a first configuration differs from a second, in the unit of their values; positive: the first has the larger ones.

    `here`: the interval of the difference of their means on these test images, by Welch; `beyond`: on further images of the
    same kind, None where that is not known. `chance`: that a training of the first is better than one of the second (0 to 1,
    equal ones count half), with its interval.
    """

    difference: float
    here: Interval
    beyond: Interval | None
    chance: float
    chance_interval: Interval


def compare(
    first: Sequence[float],
    second: Sequence[float],
    direction: Direction = "maximize",
    correct: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
    error: float = ERROR,
    least_sd: float = 0.0,
) -> Comparison | None:
    """Compare the seeds of two configurations; None where either has fewer than FEWEST_SEEDS.

    `correct`: of accuracies in percent, which of the same test images each seed classifies rightly, seeds × images.
    """
    if min(len(first), len(second)) < FEWEST_SEEDS:
        return None
    means = [float(np.mean(values)) for values in (first, second)]
    sds = [max(float(np.std(values, ddof=1)), least_sd) for values in (first, second)]
    numbers = [len(first), len(second)]
    difference = means[0] - means[1]
    here = _around(difference, *_welch(sds, numbers), error)
    beyond = _beyond(*correct, error) if correct else None
    sign = 1 if direction == "maximize" else -1
    return Comparison(
        difference,
        here,
        beyond,
        _share_of_pairs(first, second, sign),
        _chance_interval(sign * difference, sds, numbers, error),
    )


def _welch(sds: Sequence[float], numbers: Sequence[int]) -> tuple[float, float]:
    """Return the variance of a difference of two means, and its degrees of freedom."""
    parts = [sd**2 / n for sd, n in zip(sds, numbers, strict=True)]
    variance, weighed = sum(parts), sum(part**2 / (n - 1) for part, n in zip(parts, numbers, strict=True))
    return variance, variance**2 / weighed if weighed else sum(numbers) - 2


def _beyond(first: NDArray[np.bool_], second: NDArray[np.bool_], error: float) -> Interval:
    """Return the interval of a difference of accuracies, in percent, on further images.

    Images are paired: one that is hard for both says nothing. What the variances of images and of seeds both hold counts once.
    """
    images = first.shape[1]
    of_each = first.mean(axis=0) - second.mean(axis=0)
    of_images = float(np.var(of_each, ddof=1)) / images
    both = sum(float(np.var(each, axis=0, ddof=1).sum()) / (images**2 * len(each)) for each in (first, second))
    of_seeds = [float(np.std(each.mean(axis=1), ddof=1)) for each in (first, second)]
    numbers = [len(first), len(second)]
    seeds, df_of_seeds = _welch(of_seeds, numbers)
    variance, df = together(of_images, seeds, both, images, df_of_seeds)
    return _around(100 * float(of_each.mean()), 100**2 * variance, df, error)


def _share_of_pairs(first: Sequence[float], second: Sequence[float], sign: int) -> float:
    ahead = np.sign(sign * np.subtract.outer(np.asarray(first), np.asarray(second)))
    return float((1 + ahead.mean()) / 2)


def _chance_interval(ahead: float, sds: Sequence[float], numbers: Sequence[int], error: float) -> Interval:
    """Return the interval of the chance, by a parametric bootstrap: of means and deviations that such seeds could have.

    Drawing the seeds themselves again knows no pair that is not among them: of five and five seeds that do not overlap it says
    100 to 100 %, and so misses the truth in 40 of 100 cases (simulated).
    """
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    drawn = [sd * np.sqrt((n - 1) / rng.chisquare(n - 1, DRAWS)) for sd, n in zip(sds, numbers, strict=True)]
    means = sum(rng.normal(size=DRAWS) * sd / n**0.5 for sd, n in zip(drawn, numbers, strict=True))
    spread = np.hypot(*drawn)
    chances = norm.cdf((ahead + means) / np.where(spread > 0, spread, np.finfo(float).tiny))
    low, high = np.quantile(chances, [error / 2, 1 - error / 2])
    return Interval(float(low), float(high))


def _around(middle: float, variance: float, df: float, error: float) -> Interval:
    reach = t_quantile(df, error) * variance**0.5
    return Interval(middle - reach, middle + reach)
