"""Intervals are those of the textbook or of the paper, and cover what they promise to cover."""

import numpy as np
import pytest

from sweeps.results import statistics
from sweeps.results.statistics import (
    Interval,
    anytime,
    chance_above,
    format_published,
    rounding_of,
    seeds_expected,
    seeds_to_tell,
    share,
    student,
    summary,
    wilson,
)


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval
    return interval.low, interval.high


def test_an_interval_by_hand() -> None:
    found = summary([99.0, 99.1, 99.2])
    assert found.n == 3 and found.mean == pytest.approx(99.1) and found.sd == pytest.approx(0.1)
    of_mean, of_one = 4.30265 * 0.1 / 3**0.5, 4.30265 * 0.1 * (4 / 3) ** 0.5
    assert ends(found.interval) == pytest.approx((99.1 - of_mean, 99.1 + of_mean), abs=1e-5)
    assert ends(found.one_more) == pytest.approx((99.1 - of_one, 99.1 + of_one), abs=1e-5)
    assert ends(summary([99.0] * 3, least_sd=0.1).interval) == pytest.approx((99.0 - of_mean, 99.0 + of_mean), abs=1e-5)


def test_one_value_has_no_interval() -> None:
    found = summary([98.0])
    assert (found.mean, found.sd, found.interval, found.one_more) == (98.0, None, None, None)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_intervals_cover_what_they_promise(n: int) -> None:
    draws = np.random.default_rng(n).normal(99, 0.1, (2_000, n + 1))
    means = mores = 0
    for *seen, one_more in draws:
        found = summary(seen)
        assert found.interval and found.one_more
        means += found.interval.low <= 99 <= found.interval.high
        mores += found.one_more.low <= one_more <= found.one_more.high
    assert 0.935 < means / len(draws) < 0.965
    assert 0.935 < mores / len(draws) < 0.965


@pytest.mark.parametrize(("n", "factor"), [(5, 8.45), (6, 5.45), (8, 4.25), (10, 3.87), (20, 3.42), (40, 3.32)])
def test_the_anytime_interval_is_that_of_the_paper(n: int, factor: float) -> None:
    """Wang and Ramdas, arXiv 2310.03722: the Gaussian mixture for a t statistic."""
    assert anytime(n) == pytest.approx(factor, abs=0.006)
    assert anytime(n, 0.02) > anytime(n) > student(n)


def test_too_few_seeds_have_no_anytime_interval() -> None:
    assert [anytime(n) for n in (1, 2, 3, 4)] == [np.inf] * 4
    assert anytime(5, 0.02) == np.inf  # the smaller the error, the later it begins


@pytest.mark.parametrize(("hits", "trials", "low", "high"), [(5, 5, 0.478, 1), (4, 5, 0.284, 0.995), (0, 3, 0, 0.708)])
def test_shares_are_clopper_and_pearsons(hits: int, trials: int, low: float, high: float) -> None:
    assert share(hits, trials) == pytest.approx((low, high), abs=1e-3)


def test_the_chance_of_one_more_is_that_of_simulation() -> None:
    draws = np.random.default_rng(0).normal(0, 1, (4_000, 6))
    seen, one_more = draws[:, :5], draws[:, 5]
    published = seen.mean(axis=1) + 0.6 * seen.std(axis=1, ddof=1)
    said = {round(chance_above(at, summary(list(row))), 6) for at, row in zip(published[:50], seen, strict=False)}
    assert len(said) == 1 and said.pop() == pytest.approx(np.mean(one_more > published), abs=0.02)
    assert chance_above(1.0, summary([2.0] * 3)) == 1.0 and np.isnan(chance_above(1.0, summary([2.0])))


def test_wilsons_interval_is_scipys() -> None:
    from scipy.stats import binomtest

    known = binomtest(9_939, 10_000).proportion_ci(method="wilson")
    found = wilson(0.9939, 0.9939 * 0.0061 / 10_000, df=1e9)
    assert found == pytest.approx((known.low, known.high), abs=1e-7)


@pytest.mark.parametrize(("difference", "seeds"), [(0.006, 787), (0.05, 14)])
def test_seeds_that_tell_a_difference_do_so_with_the_power_they_promise(difference: float, seeds: int) -> None:
    """Of docs/results.md: a deviation of 0.06 points, and means 0.006 and 0.05 above the target."""
    assert seeds_to_tell(difference, 0.06) == seeds
    draws = np.random.default_rng(0).normal(difference, 0.06, (4_000, seeds))
    low = draws.mean(axis=1) - student(seeds) * draws.std(axis=1, ddof=1) / seeds**0.5
    assert 0.78 < np.mean(low > 0) < 0.84


def test_the_seeds_expected_are_the_first_at_which_the_anytime_interval_ends() -> None:
    n = seeds_expected(0.1, 0.1)
    assert n is not None and anytime(n) / n**0.5 < 1 <= anytime(n - 1) / (n - 1) ** 0.5
    assert seeds_expected(1e-6, 1.0) is None and seeds_to_tell(1e-6, 1.0) is None
    assert statistics.MOST_NEEDED > 1_000


@pytest.mark.parametrize(
    ("published", "kind", "decimals", "reach", "written"),
    [
        (99.0, "about", None, 0.5, "about 99 %"),
        (99.0, "about", 1, 0.05, "about 99.0 %"),  # 98.95 to 99.05; a YAML number cannot tell 99 from 99.0
        (99.5, "about", None, 0.05, "about 99.5 %"),
        (99.26, "printed", None, 0.0, "99.26 %"),
        (99.3, "printed", 1, 0.0, "99.3 %"),
    ],
)
def test_a_rounded_number_stands_for_all_that_round_to_it(
    published: float, kind: str, decimals: int | None, reach: float, written: str
) -> None:
    assert rounding_of(published, kind, decimals) == pytest.approx(reach)
    assert format_published(published, kind, decimals=decimals) == written
