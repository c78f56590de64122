"""From two series of timings to a ratio, its interval, and whether to call it faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunepolicy.pruning.measure.intervals import Interval

RESAMPLES = 2000


@dataclass(frozen=True)
class Spread:
    """The middle half of a series of timings, in seconds."""

    median: float
    lower_quartile: float
    upper_quartile: float

    @property
    def written(self) -> str:
        """It in words: `436 ms (326 to 479)`."""
        median, low, high = (
            f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"
            for seconds in (self.median, self.lower_quartile, self.upper_quartile)
        )
        return f"{median} ms ({low} to {high})"


@dataclass(frozen=True)
class Speedup:
    """How many times faster the second of two interleaved series is.

    Attributes:
        ratio: median of the first over median of the second.
        low: lower end of the 95 % bootstrap interval of `ratio`.
        high: its upper end.
    """

    ratio: float
    low: float
    high: float

    @property
    def interval(self) -> Interval:
        """Both ends."""
        return Interval(self.low, self.high)

    @property
    def verdict(self) -> str:
        """Return `faster` or `slower` only where the interval excludes 1."""
        if not self.interval.excludes(1):
            return "no difference shown"
        return "faster" if self.low > 1 else "slower"

    @property
    def written(self) -> str:
        """The interval as it is printed."""
        return self.interval.written(null=1)


def spread(seconds: Sequence[float]) -> Spread:
    """Return median and quartiles of a series."""
    lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75))
    return Spread(float(median), float(lower), float(upper))


def speedup(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Speedup:
    """Compare two interleaved series of equal length.

    Repeats are drawn as pairs, so that what slowed down both at one time cancels
    (Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13: percentile interval).
    """
    pairs = np.array([before, after])
    drawn = np.random.default_rng(seed).integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    first, second = np.median(pairs[:, drawn], axis=-1)
    low, high = np.quantile(first / second, (0.025, 0.975))
    return Speedup(float(np.median(pairs[0]) / np.median(pairs[1])), float(low), float(high))
