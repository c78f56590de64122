"""First-order change of the loss when a gate closes.

Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", equation 8, with
one gate per unit, so that the gate's gradient is the sum over all its weights.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("gradients", comparable=True)
def taylor(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the absolute mean gate gradient."""
    return stats.get("gradients", group.name).mean(0).abs()
