"""Group norm, as a multiple of the group's average channel.

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", group-level importance.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.group_norm import SMALLEST
from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("weights", comparable=True)
def group_norm_mean(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the mean squared norm over the group's weights, divided by the group's mean."""
    squares = stats.get("member_square", group.name)
    return squares / squares.mean().clamp(min=SMALLEST)
