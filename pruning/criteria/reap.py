"""Router-weighted expert activation: what an expert adds to the tokens that are sent to it.

Source: "REAP the Experts" (Lasby et al., 2025): the mean of the gate's weight times the norm of the expert's
output, over the tokens that are routed to it, so that a rare expert with much to say stays.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("activations", kinds=("expert",))
def reap(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the mean norm of every expert's weighted output over its tokens."""
    return stats.get("weighted_output", group.name)
