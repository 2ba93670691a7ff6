"""The verdict: would this configuration, trained again, be above a published accuracy on these test images?

Or below, for what is to be small. The published number is a constant, the estimand the mean test value over seeds, the interval
Student's t interval. All values are in the unit in which their metric is shown: accuracies in percent. For normally distributed
seeds a wrong "reached" has a probability of 2.5 %. A tail of unlucky seeds makes it more: 4 % at a skewness of -0.5, 5 % at -1,
11 % for an exponential one (simulated; the 51 seeds of the baselines have a skewness of -0.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models import Kind
from pipelines.metrics import ACCURACY, Direction, Labels, Metric, MetricError, measure
from sweeps.results.statistics import Summary, rounding_of

Word = Literal["reached", "not reached", "undecidable"]
ERROR = 0.05  # of a wrong "reached" or a wrong "not reached", together, over all comparisons with a target
FEWEST_SEEDS = 3  # the t interval of two is wider than all that is of interest
GROUPS = 20  # of test images, each left out once, for metrics that are no mean over images


@dataclass(frozen=True)
class Interval:
    """Where a mean lies: accuracies in percent, see `Metric.scale`."""

    low: float
    high: float


def verdict(
    interval: Interval | None, published: float, kind: Kind = "printed", direction: Direction = "maximize"
) -> Word:
    """Return whether all of `interval` is better than a published value, all of it worse, or neither.

    Better is above, or, where `direction` is to minimize, below. A rounded number ("about") stands for all that round to it, and
    is reached beyond the best of them. None: too few seeds.
    """
    reach = rounding_of(published, kind)
    if interval is None:
        return "undecidable"
    above, below = interval.low > published + reach, interval.high < published - reach
    reached, missed = (above, below) if direction == "maximize" else (below, above)
    return "reached" if reached else "not reached" if missed else "undecidable"


def of_seeds(measured: Summary, published: float, kind: Kind, direction: Direction = "maximize") -> Word:
    """Return the verdict on several seeds of one configuration that nothing chose, by the interval of their mean."""
    enough = measured.interval is not None and measured.n >= FEWEST_SEEDS
    found = Interval(*measured.interval) if enough and measured.interval else None
    return verdict(found, published, kind, direction)


def of_the_mean(accuracies: Sequence[float], images: int | None, comparisons: int = 1) -> Interval | None:
    """Return the interval of the mean over seeds, for these `images` test images; None for fewer than FEWEST_SEEDS.

    `comparisons`: among how many configurations this one is compared with the target (Bonferroni). Accuracies come in steps of
    one image: the deviation is taken to be at least that of rounding to them, so that the interval of equal ones is not empty.
    `images` is None for values without such steps.
    """
    n = len(accuracies)
    if n < FEWEST_SEEDS:
        return None
    rounding = 100 / images / 12**0.5 if images else 0.0
    return _t_interval(
        float(np.mean(accuracies)), max(float(np.std(accuracies, ddof=1)), rounding) / n**0.5, n, comparisons
    )


def beyond_these_images(correct: NDArray[np.bool_], comparisons: int = 1) -> Interval | None:
    """Return the interval of the accuracy on further images of the same kind, over seeds and images together.

    `correct`: seeds × images, whether each was classified rightly. The variance of the mean is that between seeds plus that
    between images, which counts what is left of both twice and so errs on the wide side.
    """
    seeds, images = correct.shape
    if seeds < FEWEST_SEEDS:
        return None
    of_seeds = np.var(correct.mean(axis=1), ddof=1) / seeds
    of_images = np.var(correct.mean(axis=0), ddof=1) / images
    return _t_interval(100 * float(correct.mean()), 100 * float(of_seeds + of_images) ** 0.5, seeds, comparisons)


def on_further_images(
    metric: Metric,
    values: Sequence[float],
    labels: Labels,
    predicted: NDArray[np.floating],
    comparisons: int = 1,
) -> Interval | None:
    """Return the interval of any metric on further images of the same kind, as `beyond_these_images` does of the accuracy.

    `values`: of each seed, in the unit shown; `predicted`: seeds × images × …, what each seed predicts for the test images. None
    too where the metric is not defined without some of the images.
    """
    if metric is ACCURACY:
        return beyond_these_images(predicted.argmax(axis=2) == labels, comparisons)
    if len(values) < FEWEST_SEEDS:
        return None
    try:
        of_images = metric.scale**2 * _variance_of_images(metric, labels, predicted)
    except MetricError:
        return None
    of_seeds = float(np.var(values, ddof=1)) / len(values)
    return _t_interval(float(np.mean(values)), (of_seeds + of_images) ** 0.5, len(values), comparisons)


def _variance_of_images(metric: Metric, labels: Labels, predicted: NDArray[np.floating]) -> float:
    """Return the variance of a metric's mean over models (first axis of `predicted`) that stems from which images there are.

    That of the delete-a-group jackknife: it holds for metrics that are no means over images too.
    """
    group = np.random.default_rng(0).permutation(len(labels)) % GROUPS
    without_one = [
        np.mean([measure([metric], labels[kept], each[kept])[metric.name] for each in predicted])
        for kept in (group != number for number in range(GROUPS))
    ]
    return float((GROUPS - 1) * np.var(without_one))


def of_the_ensemble(
    members: Sequence[NDArray[np.floating]],
    labels: Labels,
    further_images: bool = False,
    comparisons: int = 1,
    metric: Metric = ACCURACY,
) -> Interval | None:
    """Return the interval of a metric of an ensemble that is trained again, over the seeds of its members.

    `members`: for each configuration, seeds × images × classes, the probabilities; the ensemble is the mean of all. Its variance
    is that of the delete-one jackknife within configurations. `further_images`: on other images of the same kind, as in
    `on_further_images`. None where a configuration has fewer than FEWEST_SEEDS.
    """
    if min(map(len, members)) < FEWEST_SEEDS:
        return None
    total, n = sum(each.sum(axis=0) for each in members), sum(map(len, members))
    mean = total / n
    of_seeds = 0.0
    for each in members:
        without_one = [metric.compute(labels, (total - member) / (n - 1)) for member in each]
        of_seeds += (len(each) - 1) ** 2 / len(each) * float(np.var(without_one, ddof=1))
    if not further_images:
        rounding = (1 / len(labels)) ** 2 / 12 if metric.of_images else 0.0
        variance = max(rounding, of_seeds)
    elif metric is ACCURACY:
        variance = of_seeds + float(np.var(mean.argmax(axis=1) == labels, ddof=1)) / len(labels)
    else:
        try:
            variance = of_seeds + _variance_of_images(metric, labels, mean[np.newaxis])
        except MetricError:
            return None
    value = metric.scale * metric.compute(labels, mean)
    return _t_interval(value, metric.scale * variance**0.5, n - len(members) + 1, comparisons)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p value of McNemar's test: whether two models err equally often on the same images."""
    from scipy.stats import binomtest

    first_alone, second_alone = int((first & ~second).sum()), int((second & ~first).sum())
    if first_alone + second_alone == 0:
        return 1.0
    return float(binomtest(first_alone, first_alone + second_alone).pvalue)


def luck_of_the_best(configurations: int, deviation: float) -> float:
    """Return by how much the best of so many equal configurations, one run each, is expected to stand above their mean."""
    from scipy.stats import norm

    n = configurations  # the density of the highest of n is n Φⁿ⁻¹ φ
    return deviation * float(norm.expect(lambda x: n * x * norm.cdf(x) ** (n - 1)))


def _t_interval(mean: float, standard_error: float, n: int, comparisons: int) -> Interval:
    from scipy.stats import t

    reach = float(t.ppf(1 - ERROR / comparisons / 2, n - 1)) * standard_error
    return Interval(mean - reach, mean + reach)
