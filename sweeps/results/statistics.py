"""What a few seeds say: intervals, chances, how many seeds it takes, where a published number lies. In the unit of what is
given."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models import Kind
from pipelines.metrics import ACCURACY, Metric

ERROR = 0.05  # of an interval: it is at 95 %
MOST_NEEDED = 10_000  # seeds: nobody trains more to decide something


@dataclass(frozen=True)
class Interval:
    """From where to where, in the unit in which a metric is shown: accuracies in percent."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Several seeds of one configuration.

    `interval`: Student's t interval of the mean; `one_more`: in which one run more would lie (prediction interval). Both are for
    normally distributed values, with probability 1 - `error`, and None for a single seed.
    """

    n: int
    mean: float
    sd: float | None
    interval: Interval | None
    one_more: Interval | None


def summary(values: Sequence[float], error: float = ERROR, least_sd: float = 0.0) -> Summary:
    """Summarise at least one value. `least_sd`: intervals are those of a deviation that is at least this."""
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Summary(n, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    reach = student(n, error) * max(sd, least_sd)
    of_mean, of_one = reach / n**0.5, reach * (1 + 1 / n) ** 0.5
    return Summary(n, mean, sd, Interval(mean - of_mean, mean + of_mean), Interval(mean - of_one, mean + of_one))


@functools.cache
def student(n: int, error: float = ERROR) -> float:
    """Return how many standard errors Student's interval of the mean of `n` values reaches to each side, n fixed beforehand."""
    return t_quantile(n - 1, error)


def anytime(n: int, error: float = ERROR) -> float:
    """Return how many standard errors the anytime interval of the mean of `n` values reaches to each side; inf for too few.

    The Gaussian-mixture confidence sequence for a t statistic: with probability 1 - `error` all these intervals, of every n,
    hold the mean, so that one may look after each value and stop when one likes (Wang and Ramdas, arXiv 2310.03722).
    """
    if n < 2:
        return math.inf
    b = (math.sqrt(1 + n) / error) ** (2 / n)
    return math.inf if b >= 1 + n else math.sqrt((n - 1) * (b - 1) / (1 - b / (1 + n)))


def t_quantile(df: float, error: float = ERROR) -> float:
    """Return the two-sided quantile of Student's t distribution."""
    from scipy.special import stdtrit  # scipy.stats takes longer to load than a table to print

    return float(stdtrit(df, 1 - error / 2))


def share(hits: int, trials: int, error: float = ERROR) -> tuple[float, float]:
    """Return the exact interval (Clopper and Pearson) of the probability, 0 to 1, behind so many hits among so many trials."""
    from scipy.special import betaincinv

    low = betaincinv(hits, trials - hits + 1, error / 2) if hits else 0.0
    high = betaincinv(hits + 1, trials - hits, 1 - error / 2) if hits < trials else 1.0
    return float(low), float(high)


def chance_above(published: float, measured: Summary, least_sd: float = 0.0) -> float:
    """Return the probability, 0 to 1, that one value more lies above `published`: by Student's predictive distribution."""
    from scipy.special import stdtr

    if measured.sd is None:
        return math.nan
    spread = max(measured.sd, least_sd) * (1 + 1 / measured.n) ** 0.5
    if spread == 0:
        return float(measured.mean > published)
    return float(stdtr(measured.n - 1, (measured.mean - published) / spread))


def wilson(share: float, variance: float, df: float, error: float = ERROR) -> tuple[float, float]:
    """Return Wilson's interval, within 0 to 1, of a share that is known with this variance, of so many degrees of freedom."""
    n = share * (1 - share) / variance
    z = t_quantile(df, error)
    middle, reach = share + z**2 / (2 * n), z * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
    return (middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n)


def seeds_to_tell(difference: float, sd: float, power: float = 0.8, error: float = ERROR) -> int | None:
    """Return how many seeds, fixed beforehand, tell a mean from a constant with probability `power`; None: over MOST_NEEDED."""
    from scipy.stats import nct

    def told(n: int) -> bool:
        return bool(nct.sf(student(n, error), n - 1, abs(difference) / sd * n**0.5) >= power)

    return _first(told, 3)


def seeds_expected(difference: float, sd: float, error: float = ERROR) -> int | None:
    """Return after how many seeds the anytime interval decides, if mean and deviation stay what they are; None: MOST_NEEDED."""
    return _first(lambda n: anytime(n, error) * sd / n**0.5 < abs(difference), 3)


def _first(met: Callable[[int], bool], least: int) -> int | None:
    """Return the first number from `least` at which a condition holds that holds from there on."""
    low, high = least, least
    while not met(high):
        if high >= MOST_NEEDED:
            return None
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if met(middle) else (middle + 1, high)
    return high if high <= MOST_NEEDED else None


def rounding_of(published: float, kind: Kind, decimals: int | None = None) -> float:
    """Return how far from a published number those lie that round to it: 0 unless it was published as rounded.

    `decimals`: how many it was published with; as many as `published` has, if not given.
    """
    if kind != "about":
        return 0.0
    written = len(f"{published:g}".partition(".")[2]) if decimals is None else decimals
    return float(0.5 * 10**-written)


def format_published(published: float, kind: Kind, metric: Metric = ACCURACY, decimals: int | None = None) -> str:
    """Return a published value, in the unit in which its metric is shown, as its author gives it."""
    sign = {"printed": "", "about": "about ", "above": "above ", "goal": "goal "}[kind]
    unit = " %" if metric.scale == 100 else ""
    if decimals is not None:
        return f"{sign}{published:.{decimals}f}{unit}"
    return metric.text(published) if kind == "printed" and unit else f"{sign}{published:g}{unit}"
