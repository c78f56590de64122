"""Statistics within groups of rollouts, and group-relative advantages."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts

Values = NDArray[np.float64]
Groups = NDArray[np.int64]
Scale = Literal["group", "batch", "none"]
SMALLEST_STD = 1e-6


def group_mean(values: Values, groups: Groups) -> Values:
    """Return, for every row, the mean of `values` in its group."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    means: Values = np.bincount(place, values) / counts
    return means[place]


def group_std(values: Values, groups: Groups) -> Values:
    """Return, for every row, the unbiased standard deviation in its group; 0 for a group of one."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    squares = np.bincount(place, np.square(values - group_mean(values, groups)))
    deviations: Values = np.sqrt(squares / np.maximum(counts - 1, 1))
    return deviations[place]


def group_size(groups: Groups) -> NDArray[np.int64]:
    """Return, for every row, how many rows its group has."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(counts[place], dtype=np.int64)


def group_advantages(rewards: Rewards, groups: Groups, scale: Scale = "group") -> Values:
    """Return rewards less their group's mean, over the group's or the batch's deviation, or unscaled.

    Source: GRPO (arXiv 2402.03300), with unbiased deviations; `none` is Dr. GRPO's (arXiv 2503.20783).
    """
    centred: Values = rewards - group_mean(rewards, groups)
    if scale == "none":
        return centred
    deviation = group_std(rewards, groups) if scale == "group" else rewards.std(ddof=int(len(rewards) > 1))
    return centred / (deviation + SMALLEST_STD)


def finished_advantages(rewards: Rewards, rollouts: Rollouts, scale: Scale = "group") -> Values:
    """Return the advantages of a table, where thoughts that the limit cut off have and change none.

    Such a thought has no answer and so no outcome. Counted as wrong, it would make answering at once look
    better than thinking wherever the limit is too low to think.
    """
    counted, advantages = ~rollouts.unfinished, np.zeros(len(rewards))
    if counted.any():
        advantages[counted] = group_advantages(rewards[counted], rollouts.group[counted], scale)
    return advantages


def mixed_share(rollouts: Rollouts) -> float:
    """Return the share of groups with several modes: only these compare both modes."""
    pairs = np.unique(np.stack([rollouts.group, rollouts.mode]), axis=1)
    _, modes = np.unique(pairs[0], return_counts=True)
    return float((modes > 1).mean())


def zero_variance_share(rewards: Rewards, groups: Groups) -> float:
    """Return the share of groups whose rewards are all equal: their advantages are 0."""
    _, first = np.unique(groups, return_index=True)
    return float((group_std(rewards, groups)[first] <= 1e-12).mean())


def group_min(values: Values, groups: Groups) -> Values:
    """Return, for every row, the smallest value in its group."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    smallest = np.full(len(counts), np.inf)
    np.minimum.at(smallest, place, values)
    return smallest[place]
