"""Weight norm: units with small weights go first."""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("weights")
def magnitude(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the Euclidean norm of all entries a unit owns."""
    return stats.get("weight_l2", group.name)
