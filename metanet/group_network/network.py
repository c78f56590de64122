"""The actor-critic network over unit groups: from a group graph to decisions and a value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunepolicy.metanet.group_network.graph import (
    DECISIONS,
    EDGE_FEATURES,
    GLOBALS,
    GROUP_FEATURES,
    GroupGraph,
)
from prunepolicy.metanet.group_network.layers import layers


@dataclass(frozen=True)
class ActorCriticOutput:
    """The policy's actions and the value.

    Attributes:
        decisions: per group, shape (groups, len(DECISIONS)), from -1 to 1.
        value: per network, the expected return of the episode, shape (networks,).
    """

    decisions: Tensor
    value: Tensor


class GraphNetwork(nn.Module):
    """GNN over unit groups with a decision head per group and a value head.

    Untrained, all decisions are zero, which leaves the heuristic as it is.

    Args:
        hidden: width.
        rounds: of message passing.
        layer: name of the message-passing layer.
    """

    def __init__(self, hidden: int, rounds: int, layer: str) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Linear(len(GROUP_FEATURES) + len(GLOBALS), hidden), nn.Tanh(), nn.Linear(hidden, hidden)
        )
        self.rounds = nn.ModuleList(layers[layer](hidden, len(EDGE_FEATURES)) for _ in range(rounds))
        self.decide = _head(hidden, len(DECISIONS))
        self.value = _head(hidden, 1)

    def forward(self, graph: GroupGraph) -> ActorCriticOutput:
        """Return decisions and values for the networks of a batch."""
        groups = self.group_states(graph)
        networks = len(graph.globals)
        places = graph.network[:, None].expand_as(groups)
        empty = groups.new_zeros(networks, groups.shape[1])
        pooled = empty.scatter_reduce(0, places, groups, "mean", include_self=False)
        return ActorCriticOutput(torch.tanh(self.decide(groups)), self.value(pooled).squeeze(1))

    def group_states(self, graph: GroupGraph) -> Tensor:
        """Return the states of groups after all rounds, shape (groups, hidden)."""
        groups: Tensor = self.read(torch.cat([graph.groups, graph.globals[graph.network]], dim=1))
        for layer in self.rounds:
            groups = layer(groups, graph.edges, graph.edge_features)
        return groups


def _head(hidden: int, outputs: int) -> nn.Sequential:
    """Return two layers, the last of which starts at zero."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), last)
