"""What else can be asked of a metanetwork beside weights: a gate or a score per unit, decisions, a value.

All heads read the states of nodes (`Metanetwork.node_states`) and begin at zero, as decoders do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunepolicy.metanet.coders import decoder
from prunepolicy.metanet.graph import DECISIONS
from prunepolicy.metanet.network import Judgement
from prunepolicy.metanet.weight_graph.graph import WeightGraph
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.units import UnitGroup


class GateHead(nn.Module):
    """A multiplier per unit, 1 at the start; `pruning.gates` puts them on a running network."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.decoder = decoder(hidden, 1)

    def forward(self, graph: WeightGraph, groups: Sequence[UnitGroup], states: Tensor) -> dict[str, Tensor]:
        """Return multipliers per group, shape (units,)."""
        return {g.name: 1 + self.decoder(unit_states(graph, g, states)).squeeze(1) for g in groups}


class KeepHead(nn.Module):
    """A score per unit, higher means keep: a criterion's logarithm, and what the head adds to it."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.decoder = decoder(hidden, 1)

    def forward(
        self,
        graph: WeightGraph,
        groups: Sequence[UnitGroup],
        states: Tensor,
        priors: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return logarithms of scores per group, shape (units,).

        Args:
            priors: logarithms of a criterion's scores.
        """
        return {
            g.name: priors[g.name] + self.decoder(unit_states(graph, g, states)).squeeze(1) for g in groups
        }


class JudgeHead(nn.Module):
    """The decisions and the value of `GraphNetwork`, for what learns a graph policy by rewards."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.decide, self.value = decoder(hidden, len(DECISIONS)), decoder(hidden, 1)

    def forward(self, graph: WeightGraph, groups: Sequence[UnitGroup], states: Tensor) -> Judgement:
        """Judge one network: a row of decisions per group."""
        pooled = torch.stack([unit_states(graph, group, states).mean(0) for group in groups])
        return Judgement(torch.tanh(self.decide(pooled)), self.value(states.mean(0, keepdim=True)).squeeze(1))


def unit_states(graph: WeightGraph, group: UnitGroup, states: Tensor) -> Tensor:
    """Return the mean state of the nodes that each unit's weights write, shape (units, hidden).

    Raises:
        UnsupportedModelError: when the group's units write no node, as whole layers do.
    """
    units = torch.arange(group.size).numpy()
    writers = {block.tensor: block.targets.flatten() for block in graph.weight_blocks}
    nodes = [
        writers[part.tensor][torch.from_numpy(part.indices(units))]
        for part in group.slices
        if not part.consumer and part.tensor in writers
    ]
    if not nodes:
        raise UnsupportedModelError(f"{group.name} has no channels of its own, so no head can judge it.")
    found = torch.cat([place.transpose(0, 1).flatten(1) for place in nodes], dim=1)
    return states[found.to(states.device)].mean(1)
