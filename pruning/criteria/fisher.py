"""Second-order rise of the loss when a gate closes: the diagonal of the gates' Fisher matrix.

Source: Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", equation
10. Samples that the model wrote itself make it the true, not the empirical, Fisher matrix.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("gradients", comparable=True)
def fisher(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return half the mean squared gate gradient."""
    return stats.get("gradients", group.name).square().mean(0) / 2
