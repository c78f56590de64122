"""What a unit adds to its layer's output on probe inputs (Wanda's idea, for whole units).

Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", equation
1: activation norm times weight magnitude, here summed over the weights a unit feeds.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("activations")
def activation(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the root mean square of a unit's contribution to the layer's output."""
    return stats.get("output", group.name)
