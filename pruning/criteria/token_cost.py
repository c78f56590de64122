"""What a text costs more without a token, which is then written by its pieces."""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("tokens", comparable=True, kinds=("vocabulary",))
def token_cost(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the expected rise of a sample's loss in nats; infinite for what has to stay."""
    return stats.get("token_cost", group.name)
