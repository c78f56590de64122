"""How far a layer turns the residual stream; layers that hardly turn it go first.

Source: Gromov et al., "The Unreasonable Ineffectiveness of the Deeper Layers", equation 6, for
single layers.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("activations", kinds=("layer",))
def angular(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the mean angle between a layer's input and output, as a share of pi."""
    return stats.get("angular", group.name)
