"""Intervals of 95 %: how sure a difference on the same samples is, and how an interval is written."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

NORMAL = NormalDist().inv_cdf(0.975)
MOST_PLACES = 17
"""Decimal places beyond which doubles of the size of 1 have none."""


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Return whether `value` lies outside, so that a difference from it was shown."""
        return not self.low <= value <= self.high

    def written(self, places: int = 2, null: float = 0.0) -> str:
        """Return the interval rounded outward, to as many more places as keep it apart from `null`.

        What is printed contains the interval, and excludes `null` where the interval does.
        """
        ends = self._rounded(places)
        while self.excludes(null) and not Interval(*map(float, ends)).excludes(null) and places < MOST_PLACES:
            places += 1
            ends = self._rounded(places)
        return f"{ends[0]} to {ends[1]}"

    def _rounded(self, places: int) -> tuple[str, str]:
        return _rounded(self.low, places, ROUND_FLOOR), _rounded(self.high, places, ROUND_CEILING)


def _rounded(value: float, places: int, rounding: str) -> str:
    if not math.isfinite(value):
        return f"{value:g}"
    # Adding 0 makes -0.00 a 0.00.
    return f"{Decimal(str(value)).quantize(Decimal(1).scaleb(-places), rounding) + 0:f}"


def mean_interval(values: ArrayLike, weights: ArrayLike | None = None) -> Interval:
    """Return Student's interval of a mean; with differences on the same samples, that of a paired comparison.

    Args:
        values: one sum per independent sample (a window, a question, a seed).
        weights: what every sum is over; 1 each by default. The mean is the ratio of both sums.

    Returns:
        Everything, for fewer than two samples.
    """
    sums = np.asarray(values, np.float64)
    sizes = np.ones_like(sums) if weights is None else np.asarray(weights, np.float64)
    count = len(sums)
    if count < 2:
        return Interval(-math.inf, math.inf)
    # A ratio estimator: its linearised error is that of the residuals s_i - m n_i (Cochran, "Sampling
    # Techniques", chapter 6), since windows of unlike sizes must not weigh alike.
    mean = sums.sum() / sizes.sum()
    error = math.sqrt(count / (count - 1) * np.square(sums - mean * sizes).sum()) / sizes.sum()
    half = _student(count - 1) * error
    return Interval(float(mean - half), float(mean + half))


def around(value: float, error: float) -> Interval:
    """Return the normal interval of a value with a standard error."""
    return Interval(value - NORMAL * error, value + NORMAL * error)


def wilson_interval(share: float, count: int) -> Interval:
    """Return the score interval of a share of `count` independent trials (Wilson, "Probable Inference").

    Returns:
        Everything that a share can be, for no trials.
    """
    if not count:
        return Interval(0.0, 1.0)
    square = NORMAL**2 / count
    half = NORMAL * math.sqrt(share * (1 - share) / count + square / (4 * count))
    middle, scale = share + square / 2, 1 + square
    return Interval(max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def share_interval(before: ArrayLike, after: ArrayLike) -> Interval:
    """Return the interval of the difference between two shares of right answers to the same questions.

    Args:
        before, after: whether every answer is right, 0 or 1, or a mean of such.

    One question more that either side alone answers keeps it honest where few answers differ (Bonett and
    Price, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data").
    """
    changes: NDArray[np.float64] = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    # One more question that only the first side answers, and one that only the second does: without them the
    # interval has no width where no answer changed.
    return mean_interval(np.append(changes, (1.0, -1.0)))


def _student(freedom: int) -> float:
    """Return the 97.5 % point of Student's distribution (Abramowitz and Stegun, 26.7.5)."""
    z, square = NORMAL, NORMAL**2
    terms = (
        z * (square + 1) / 4,
        z * ((5 * square + 16) * square + 3) / 96,
        z * (((3 * square + 19) * square + 17) * square - 15) / 384,
        z * ((((79 * square + 776) * square + 1482) * square - 1920) * square - 945) / 92160,
    )
    return z + sum(term / float(freedom**power) for power, term in enumerate(terms, start=1))
