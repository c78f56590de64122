"""Batch-norm factors: a channel that its norms scale down says little.

Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", section 3.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("weights", kinds=("channel",))
def bn_scale(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the mean absolute factor of the batch norms that write a channel."""
    return stats.get("norm_scale", group.name)
