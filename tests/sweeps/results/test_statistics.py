"""Intervals are those of the textbook, and cover what they promise to cover."""

import numpy as np
import pytest

from sweeps.results.statistics import summary


def test_an_interval_by_hand() -> None:
    found = summary([99.0, 99.1, 99.2])
    assert found.n == 3 and found.mean == pytest.approx(99.1) and found.sd == pytest.approx(0.1)
    assert found.interval == pytest.approx((99.1 - 4.30265 * 0.1 / 3**0.5, 99.1 + 4.30265 * 0.1 / 3**0.5), abs=1e-5)
    assert found.one_more == pytest.approx(
        (99.1 - 4.30265 * 0.1 * (4 / 3) ** 0.5, 99.1 + 4.30265 * 0.1 * (4 / 3) ** 0.5)
    )


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
        means += found.interval[0] <= 99 <= found.interval[1]
        mores += found.one_more[0] <= one_more <= found.one_more[1]
    assert 0.935 < means / len(draws) < 0.965
    assert 0.935 < mores / len(draws) < 0.965
