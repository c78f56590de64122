"""Rewards that compare singular-value spectra before and after, as PruneNet does, and better-behaved ones.

None of them is a measure of quality; see the cards of the policies that learned from them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, shaping

Spectra = NDArray[np.float64]
"""Singular values, falling along the last axis; one row per outcome."""

NO_DISTANCE = 99_999.0
"""Reward of PruneNet's code for equal spectra, where 1/0 has no value."""
POINTS = 256
"""Quantiles at which spectra of different lengths are compared."""


@shaping("ks_inverse", "dense_spectrum", "kept_spectrum")
def ks_inverse(outcomes: Outcomes) -> Rewards:
    """Return 1/D with D the Kolmogorov-Smirnov distance of raw singular values, as published."""
    distances = -ks(outcomes)
    return np.where(distances > 0, 1 / np.maximum(distances, 1e-12), NO_DISTANCE)


@shaping("ks", "dense_spectrum", "kept_spectrum")
def ks(outcomes: Outcomes) -> Rewards:
    """Return -D on raw singular values."""
    return 0.0 - ks_distances(outcomes["dense_spectrum"], outcomes["kept_spectrum"])


@shaping("ks_scale_free", "dense_spectrum", "kept_spectrum")
def ks_scale_free(outcomes: Outcomes) -> Rewards:
    """Return -D after dividing every spectrum by its root mean square.

    Even random removal shrinks all singular values by about the root of the kept share; this
    looks at the shape alone.
    """
    dense, kept = (_unit(outcomes[name]) for name in ("dense_spectrum", "kept_spectrum"))
    return 0.0 - ks_distances(dense, kept)


@shaping("log_spectrum", "dense_spectrum", "kept_spectrum")
def log_spectrum(outcomes: Outcomes) -> Rewards:
    """Return minus the root mean square difference of log singular values at equal quantiles."""
    distances: Rewards = np.sqrt(np.square(_log_difference(outcomes, scale_free=False)).mean(-1))
    return -distances


@shaping("wasserstein", "dense_spectrum", "kept_spectrum")
def wasserstein(outcomes: Outcomes) -> Rewards:
    """Return minus the 1-Wasserstein distance of log eigenvalues, spectra scaled to equal energy."""
    # Logarithms of eigenvalues are twice those of singular values; in one dimension the distance
    # is the mean difference of quantiles.
    distances: Rewards = 2 * np.abs(_log_difference(outcomes, scale_free=True)).mean(-1)
    return -distances


def ks_distances(first: Spectra, second: Spectra) -> NDArray[np.float64]:
    """Return the two-sample Kolmogorov-Smirnov statistic of every pair of rows."""
    return np.array([_ks_distance(a, b) for a, b in zip(first, second, strict=True)])


def _ks_distance(first: Spectra, second: Spectra) -> float:
    """Return the largest gap between two empirical distribution functions."""
    # Step functions: the gap is largest at one of their jumps, which are the values themselves.
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate([first, second])
    below_first = np.searchsorted(first, points, side="right") / len(first)
    below_second = np.searchsorted(second, points, side="right") / len(second)
    return float(np.abs(below_first - below_second).max())


def _unit(spectra: Spectra) -> Spectra:
    return np.asarray(spectra / np.sqrt(np.square(spectra).mean(-1, keepdims=True)))


def _log_difference(outcomes: Outcomes, scale_free: bool) -> Spectra:
    logs = []
    for name in ("dense_spectrum", "kept_spectrum"):
        spectra = _unit(outcomes[name]) if scale_free else outcomes[name]
        # What vanishes is kept finite: relative to the largest value, double precision ends there.
        floor = 1e-12 * outcomes["dense_spectrum"].max(-1, keepdims=True)
        logs.append(_quantiles(np.log(np.maximum(spectra, floor))))
    return logs[0] - logs[1]


def _quantiles(values: Spectra) -> Spectra:
    count = values.shape[-1]
    places = np.linspace(0, count - 1, POINTS)
    return np.array([np.interp(places, np.arange(count), row) for row in values])
