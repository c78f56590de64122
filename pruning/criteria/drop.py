"""What goes wrong when a layer goes: measured, one layer at a time.

Such scores don't add up when several layers go (Sieberling et al., "EvoPress"), so that they say which
layers, not how many.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("drops", kinds=("layer",))
def drop(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return how far the network's output moves without the layer."""
    return stats.get("drops", group.name)
