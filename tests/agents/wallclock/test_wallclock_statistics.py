"""Means and their intervals, against sums done by hand."""

import numpy as np
import pytest

from cadenza.agents.wallclock.statistics import iqm, iqm_interval, mean_interval


def test_iqm_by_hand() -> None:
    assert iqm(np.array([7.0, 0, 1, 6, 2, 5, 3, 4])) == 3.5  # 2, 3, 4, 5 are left
    assert iqm(np.array([1.0, 2, 6])) == 3.0  # a quarter of three, rounded down, is nobody
    assert iqm(np.array([1.0, 2, 3, 1000])) == 2.5  # one outlier does nothing
    assert list(iqm(np.array([[0.0, 1, 1, 9], [4, 4, 4, 4]]))) == [1, 4]


def test_interval_of_equal_returns_is_a_point() -> None:
    assert iqm_interval(np.full((3, 10), 5.0)) == mean_interval(np.full((3, 10), 5.0)) == (5.0, 5.0)


def test_seeds_are_drawn_anew_and_not_only_their_episodes() -> None:
    # Two seeds of equal episodes: a quarter of the samples holds the worse seed twice, a quarter the better one.
    assert iqm_interval(np.array([[0.0] * 4, [100.0] * 4])) == (0.0, 100.0)


def test_one_seed_leaves_its_episodes() -> None:
    returns = np.random.default_rng(1).normal(100, 10, (1, 25))
    low, high = iqm_interval(returns)
    assert low < iqm(returns.ravel()) < high
    # The mean's standard error is 10/5 = 2, the IQM's a little more: about 4 either way.
    assert high - low == pytest.approx(8, rel=0.5)
    assert (low, high) == iqm_interval(returns)


def test_interval_of_the_mean() -> None:
    """Of one seed it is the mean's, 1.96 standard errors of 10/5 either way; an outlier widens it, not the IQM's."""
    returns = np.random.default_rng(1).normal(100, 10, (1, 25))
    low, high = mean_interval(returns)
    error = returns.std() / 5
    assert (low, high) == pytest.approx((returns.mean() - 1.96 * error, returns.mean() + 1.96 * error), abs=0.5)
    returns[0, 0] = 1000
    assert mean_interval(returns)[1] > 150 > iqm_interval(returns)[1]
