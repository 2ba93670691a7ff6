"""The verdict: would this configuration, trained again, be better than a published value on these test images?

The published number is a constant, the estimand the mean test value over seeds. All values are in the unit in which their
metric is shown: accuracies in percent. At the number of seeds that was planned the interval of the mean is Student's; at any
other it is the anytime interval, so that one may look and stop when one likes.

What holds, for normally distributed seeds: a wrong "reached" of one system has a probability of 2.5 % at the planned number
of seeds, and of 3 to 4 % over all looks together up to 200 seeds (simulated in the tests; the bound is 5 %). Words share this
error: `share_of` gives each system of a study its part, so that over all of them, whichever is chosen, the bound stays.
Intervals are shown plain, at 95 %. About seeds of which some never leave chance no rule of few seeds knows the mean:
docs/verdicts.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models import Kind
from pipelines.metrics import ACCURACY, Direction, Labels, Metric, MetricError, measure
from sweeps.results.statistics import (
    ERROR,
    Interval,
    Summary,
    anytime,
    chance_above,
    rounding_of,
    share,
    student,
    summary,
    t_quantile,
    wilson,
)

Word = Literal["reached", "not reached", "undecided"]
Side = Literal["better", "worse", "undecided"]
SystemKind = Literal["configuration", "final", "ensemble"]
FEWEST_SEEDS = 3  # the t interval of two is wider than all that is of interest
SHARES: dict[SystemKind, float] = {"configuration": 0.8, "final": 0.1, "ensemble": 0.1}  # of ERROR; they sum to 1
REPLICATES = 50  # of the test images, drawn again, for metrics that are no mean over images


@dataclass(frozen=True)
class Published:
    """A published value, and which way it is better.

    A rounded number ("about") stands for all that round to it, and is beaten beyond the best of them.
    """

    value: float
    kind: Kind = "printed"
    direction: Direction = "maximize"
    decimals: int | None = None

    def side(self, interval: Interval | None) -> Side:
        """Return whether all of `interval` is better, all of it worse, or neither; None: too few seeds."""
        reach = rounding_of(self.value, self.kind, self.decimals)
        if interval is None:
            return "undecided"
        above, below = interval.low > self.value + reach, interval.high < self.value - reach
        better, worse = (above, below) if self.direction == "maximize" else (below, above)
        return "better" if better else "worse" if worse else "undecided"

    def verdict(self, interval: Interval | None) -> Word:
        """Return the same of a mean, in the verdict's words."""
        words: dict[Side, Word] = {"better": "reached", "worse": "not reached", "undecided": "undecided"}
        return words[self.side(interval)]

    @property
    def to_beat(self) -> float:
        """What is beaten only beyond it: the best of all that round to the value."""
        reach = rounding_of(self.value, self.kind, self.decimals)
        return self.value + (reach if self.direction == "maximize" else -reach)

    def beaten_by(self, value: float) -> bool:
        """Whether a value is better."""
        return value > self.to_beat if self.direction == "maximize" else value < self.to_beat


def share_of(system: SystemKind, configurations: int) -> float:
    """Return the error that the word of one system may have, so that over all systems of a study it stays ERROR.

    Any of the `configurations` may be the chosen one: they share what is theirs. The shares of the final training and the
    ensemble are set aside whether or not there are any: a word that was right to say stays so when they come.
    """
    among = configurations if system == "configuration" else 1
    return ERROR * SHARES[system] / among


# The mean over trainings, on these test images


@dataclass(frozen=True)
class Seeds:
    """The test values of a configuration's seeds in the order of their numbers; None: one that diverged or failed.

    `planned`: how many were planned before the first was trained. `images`: of how many the values are a mean, for accuracies
    come in steps of one image: their deviation is taken to be at least that of rounding to them, so that the interval of
    equal ones is not empty. None for values without such steps.
    """

    values: Sequence[float | None]
    planned: int
    images: int | None = None

    @property
    def trained(self) -> int:
        """How many have ended, lost ones too."""
        return len(self.values)

    @property
    def complete(self) -> list[float]:
        """The values of those that have one."""
        return [value for value in self.values if value is not None]

    @property
    def as_planned(self) -> bool:
        """Whether as many have ended as were planned."""
        return self.trained == self.planned

    @property
    def least_sd(self) -> float:
        """The deviation of rounding to a step of one image."""
        return 100 / self.images / 12**0.5 if self.images else 0.0

    def first(self, trained: int) -> "Seeds":
        """Return the first of them."""
        return replace(self, values=self.values[:trained])

    def summary(self, error: float = ERROR) -> Summary | None:
        """Return the summary of those that have a value, by Student's t; None for fewer than FEWEST_SEEDS."""
        return summary(self.complete, error, self.least_sd) if len(self.complete) >= FEWEST_SEEDS else None

    def interval(self, error: float = ERROR) -> Interval | None:
        """Return the interval of the mean: Student's as planned, else the anytime interval; None for too few seeds."""
        n, known = len(self.complete), self.summary(error)
        if known is None or known.sd is None:
            return None
        factor = student(n, error) if self.as_planned else anytime(n, error)
        reach = factor * max(known.sd, self.least_sd) / n**0.5
        return Interval(known.mean - reach, known.mean + reach) if np.isfinite(reach) else None


@dataclass(frozen=True)
class Decision:
    """The word on a published value, and the seeds that it is of: the first that decide it, or all."""

    word: Word
    seeds: Seeds


def decide(seeds: Seeds, published: Published, error: float = ERROR) -> Decision:
    """Return the verdict on a configuration, by the first of its seeds that decide it.

    A word once said stays: the error counts it whenever it is first said. So it depends neither on how many seeds were
    trained after, nor, as they enter by number, on how many at once.
    """
    for trained in range(FEWEST_SEEDS, seeds.trained + 1):
        so_far = seeds.first(trained)
        word = published.verdict(so_far.interval(error))
        if word != "undecided":
            return Decision(word, so_far)
    return Decision("undecided", seeds)


# One training more, and one training beside a published one


@dataclass(frozen=True)
class NextTraining:
    """How one training more would do: better than a published value with probability `chance`, 0 to 1.

    `better` of `trained` seeds are, which holds for a share of all trainings from `low` to `high` (exact, 95 %). Lost seeds
    count as trained, and are not better.
    """

    chance: float
    better: int
    trained: int
    low: float
    high: float


def next_training(seeds: Seeds, published: Published) -> NextTraining | None:
    """Return how one training more would do; None for fewer than FEWEST_SEEDS."""
    known = seeds.summary()
    if known is None:
        return None
    above = chance_above(published.to_beat, known, seeds.least_sd)
    chance = above if published.direction == "maximize" else 1 - above
    better = sum(published.beaten_by(value) for value in seeds.complete)
    low, high = share(better, seeds.trained)
    return NextTraining(chance * known.n / seeds.trained, better, seeds.trained, low, high)


def reproduction(measured: Summary, published: Published) -> str:
    """Return how seeds that nothing chose stand to a published run: it "agrees" with them if it could be one of theirs.

    That is, if it lies in the interval of one run more, or some number that rounds to it does; else they are "better" or
    "worse". A bound ("above") agrees with all beyond it. A goal is no run: it is "reached", "not reached" or "undecided", by
    the mean.
    """
    if measured.n < FEWEST_SEEDS:
        return "undecided"
    if published.kind == "goal":
        return published.verdict(measured.interval)
    side = published.side(measured.one_more)
    return "agrees" if side == "undecided" or (side == "better" and published.kind == "above") else side


# On other images of the same kind, and ensembles


@dataclass(frozen=True)
class Estimate:
    """A value as it is shown, with what is known of its error: `variance`, of so many degrees of freedom.

    `images`: of how many it is a share, in percent; None: it is not.
    """

    value: float
    variance: float
    df: float
    images: int | None = None

    def interval(self, error: float = ERROR) -> Interval:
        """Return where it lies: a share by Wilson's interval, anything else by Student's."""
        if self.images is None:
            reach = t_quantile(self.df, error) * self.variance**0.5
            return Interval(self.value - reach, self.value + reach)
        share, variance, df = self.value / 100, self.variance / 100**2, self.df
        if not variance or share in (0.0, 1.0):  # all right, or all wrong: as n of n
            share = min(max(share, 1e-9), 1 - 1e-9)
            variance, df = share * (1 - share) / self.images, self.images - 1
        low, high = wilson(share, variance, df, error)
        return Interval(100 * low, 100 * high)


def beyond_these_images(correct: NDArray[np.bool_]) -> Estimate | None:
    """Return the accuracy on further images of the same kind, in percent, by seeds and images together.

    `correct`: seeds × images, whether each was classified rightly. None for fewer than FEWEST_SEEDS.
    """
    seeds, images = correct.shape
    if seeds < FEWEST_SEEDS:
        return None
    of_images = float(np.var(correct.mean(axis=0), ddof=1)) / images
    of_seeds = float(np.var(correct.mean(axis=1), ddof=1)) / seeds
    of_both = float(np.var(correct, axis=0, ddof=1).sum()) / (images**2 * seeds)
    variance, df = together(of_images, of_seeds, of_both, images, seeds - 1)
    return Estimate(100 * float(correct.mean()), 100**2 * variance, df, images)


def on_further_images(
    metric: Metric, values: Sequence[float], labels: Labels, predicted: NDArray[np.floating]
) -> Estimate | None:
    """Return any metric on further images of the same kind, as `beyond_these_images` does the accuracy.

    `values`: of each seed, in the unit shown; `predicted`: seeds × images × …, what each seed predicts for the test images. The
    variances are those of a bootstrap over images. None too where the metric is not defined for images drawn so.
    """
    if metric is ACCURACY:
        return beyond_these_images(predicted.argmax(axis=2) == labels)
    n = len(values)
    if n < FEWEST_SEEDS:
        return None
    try:
        drawn = metric.scale * _redrawn(metric, labels, predicted)
    except MetricError:
        return None
    of_images = float(np.var(drawn.mean(axis=1), ddof=1))
    of_both = float(np.var(drawn - drawn.mean(axis=1, keepdims=True), axis=0, ddof=1).mean()) / (n - 1)
    variance, df = together(of_images, float(np.var(values, ddof=1)) / n, of_both, len(labels), n - 1)
    return Estimate(float(np.mean(values)), variance, df)


def together(of_images: float, of_seeds: float, of_both: float, images: int, df_of_seeds: float) -> tuple[float, float]:
    """Return the variance that images and seeds give a mean together, and its degrees of freedom, by Satterthwaite.

    `of_both`: what each of the two variances holds: a seed that takes an image wrongly by chance is in both, and counts once.
    """
    variance = max(of_images, of_images + of_seeds - of_both)
    parts = of_seeds**2 / df_of_seeds + of_images**2 / (images - 1)
    return variance, variance**2 / parts if parts else images - 1


def _redrawn(metric: Metric, labels: Labels, predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a metric of each model (first axis of `predicted`) for REPLICATES draws of the images: replicates × models."""
    rng, n = np.random.default_rng(0), len(labels)
    drawn = (rng.integers(0, n, n) for _ in range(REPLICATES))
    return np.array(
        [[measure([metric], labels[these], each[these])[metric.name] for each in predicted] for these in drawn]
    )


def of_the_ensemble(
    members: Sequence[NDArray[np.floating]], labels: Labels, further_images: bool = False, metric: Metric = ACCURACY
) -> Estimate | None:
    """Return a metric of an ensemble that is trained again, over the seeds of its members; for seeds fixed beforehand.

    `members`: for each configuration, seeds × images × classes, the probabilities; the ensemble is the mean of all. Its variance
    is that of the delete-one jackknife within configurations. `further_images`: on other images of the same kind, as in
    `on_further_images`. None where a configuration has fewer than FEWEST_SEEDS.
    """
    if min(map(len, members)) < FEWEST_SEEDS:
        return None
    total, n = sum(each.sum(axis=0) for each in members), sum(map(len, members))
    mean, scale, images = total / n, metric.scale, len(labels)
    of_seeds = 0.0
    for each in members:
        without_one = [metric.compute(labels, (total - member) / (n - 1)) for member in each]
        of_seeds += (len(each) - 1) ** 2 / len(each) * float(np.var(without_one, ddof=1))
    df, value = n - len(members), scale * metric.compute(labels, mean)
    if not further_images:
        rounding = (1 / images) ** 2 / 12 if metric.of_images else 0.0
        return Estimate(value, scale**2 * max(rounding, of_seeds), df)
    try:
        if metric is ACCURACY:
            of_images = float(np.var(mean.argmax(axis=1) == labels, ddof=1)) / images
        else:
            of_images = float(np.var(_redrawn(metric, labels, mean[np.newaxis]), ddof=1))
    except MetricError:
        return None
    variance, df_together = together(of_images, of_seeds, 0.0, images, df)
    return Estimate(value, scale**2 * variance, df_together, images if metric is ACCURACY else None)


def luck_of_the_best(configurations: int, deviation: float) -> float:
    """Return by how much the best of so many equal configurations, one run each, is expected to stand above their mean."""
    from scipy.stats import norm

    n = configurations  # the density of the highest of n is n Φⁿ⁻¹ φ
    return deviation * float(norm.expect(lambda x: n * x * norm.cdf(x) ** (n - 1)))
