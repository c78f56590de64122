"""Intervals hold what they say, and what is printed agrees with what is decided."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunepolicy.pruning.measure.intervals import Interval, mean_interval, share_interval, wilson_interval
from prunepolicy.pruning.measure.speedup import Speedup


@pytest.mark.parametrize(
    ("low", "high", "null", "written"),
    [
        (0.996, 1.004, 1.0, "0.99 to 1.01"),
        (0.9, 0.9996, 1.0, "0.9000 to 0.9996"),
        (1.0004, 1.2, 1.0, "1.0004 to 1.2000"),
        (1.0, 1.2, 1.0, "1.00 to 1.20"),
        (-0.0004, -0.0, 0.0, "-0.01 to 0.00"),
        (-0.0312, -0.002, 0.0, "-0.032 to -0.002"),
        (-math.inf, math.inf, 0.0, "-inf to inf"),
    ],
)
def test_ends_are_rounded_outward(low: float, high: float, null: float, written: str) -> None:
    assert Interval(low, high).written(2, null) == written


@given(st.floats(0.5, 2.0), st.floats(0.0, 0.5), st.integers(0, 4))
def test_what_is_printed_contains_the_interval_and_agrees_with_the_verdict(
    low: float, width: float, places: int
) -> None:
    interval = Interval(low, low + width)
    printed = Interval(*map(float, interval.written(places, 1.0).split(" to ")))
    assert printed.low <= interval.low
    assert printed.high >= interval.high
    gain = Speedup(low, *interval)
    assert printed.excludes(1.0) == (gain.verdict != "no difference shown")


def test_means_of_noise_lie_in_their_intervals_nineteen_times_in_twenty() -> None:
    drawn = np.random.default_rng(0).standard_normal((2000, 6))
    assert np.mean([mean_interval(row).excludes(0.0) for row in drawn]) == pytest.approx(0.05, abs=0.015)


def test_sums_over_different_sizes_are_weighed() -> None:
    sizes = np.array([10.0, 10.0, 10.0, 2.0])
    interval = mean_interval(0.5 * sizes, sizes)
    assert interval == pytest.approx((0.5, 0.5))


def test_one_sample_shows_nothing() -> None:
    assert not mean_interval([3.0]).excludes(0.0)


@pytest.mark.parametrize(("changed", "shown"), [(0, False), (5, False), (6, True)])
def test_six_answers_that_all_change_one_way_are_a_difference_as_in_mcnemars_test(
    changed: int, shown: bool
) -> None:
    before, after = np.zeros(1000), np.zeros(1000)
    after[:changed] = 1
    assert share_interval(before, after).excludes(0.0) is shown


def test_guesses_seldom_differ_from_guesses() -> None:
    generator = np.random.default_rng(1)
    pairs = generator.random((1000, 2, 128)) < 0.25
    assert np.mean([share_interval(*pair).excludes(0.0) for pair in pairs]) < 0.07


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (3, 10), (120, 400)])
def test_intervals_of_shares_are_wilsons(right: int, count: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson_interval(right / count, count) == pytest.approx((expected.low, expected.high))
    assert wilson_interval(0.5, 0) == (0, 1)
