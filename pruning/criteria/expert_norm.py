"""The norm of an expert's output over the tokens that are sent to it, whatever the router makes of it."""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("activations", kinds=("expert",))
def expert_norm(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the mean norm of every expert's unweighted output over its tokens."""
    return stats.get("written", group.name)
