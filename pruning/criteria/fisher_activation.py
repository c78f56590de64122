"""Two views of a unit in one: what it adds to the output, and how much the loss cares.

Activations see the few channels with massive outputs, which few gradient samples miss; gradients
see which outputs the rest of the network reads. The geometric mean needs both to be small.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("activations", "gradients")
def fisher_activation(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the geometric mean of the squared output and the mean squared gate gradient."""
    energy = stats.get("output", group.name).square()
    return (energy * stats.get("gradients", group.name).square().mean(0)).sqrt()
