"""Group norm: what a channel owns in every weight of its group, as a share of the group's strongest channel.

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", group-level importance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

SMALLEST = torch.finfo(torch.float32).tiny


@criterion("weights", comparable=True)
def group_norm(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the mean squared norm over the group's weights, divided by the group's largest."""
    squares = stats.get("member_square", group.name)
    return squares / squares.max().clamp(min=SMALLEST)
