"""How often the router chooses an expert on calibration data."""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("activations", kinds=("expert",))
def frequency(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the share of tokens that are sent to every expert."""
    return stats.get("routed", group.name)
