"""Group norm as it is: groups of large weights keep more.

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", group-level importance.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("weights", comparable=True)
def group_norm_plain(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the mean squared norm over the group's weights."""
    return stats.get("member_square", group.name)
