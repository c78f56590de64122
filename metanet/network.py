"""The network that reads networks: from the groups of a unit graph to decisions, and a value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunepolicy.metanet.graph import DECISIONS, EDGE_FEATURES, GLOBALS, GROUP_FEATURES, GroupGraph
from prunepolicy.metanet.layers import layers


@dataclass(frozen=True)
class ActorCriticOutput:
    """What the network says.

    Attributes:
        decisions: per group, shape (groups, len(DECISIONS)), from -1 to 1.
        value: per network, what the outcome of the episode is expected to be worth, shape (networks,).
    """

    decisions: Tensor
    value: Tensor


class GraphNetwork(nn.Module):
    """Reads groups, lets them talk to their neighbours, and decides for each in that light.

    Before it has learned anything all its decisions are zero, which leaves the heuristic as it is.

    Args:
        hidden: width.
        rounds: of messages between groups.
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
        """Evaluator the networks of a batch."""
        groups = self.heard(graph)
        networks = len(graph.globals)
        places = graph.network[:, None].expand_as(groups)
        empty = groups.new_zeros(networks, groups.shape[1])
        pooled = empty.scatter_reduce(0, places, groups, "mean", include_self=False)
        return ActorCriticOutput(torch.tanh(self.decide(groups)), self.value(pooled).squeeze(1))

    def heard(self, graph: GroupGraph) -> Tensor:
        """Return every group as it sees itself after all messages, shape (groups, hidden)."""
        groups: Tensor = self.read(torch.cat([graph.groups, graph.globals[graph.network]], dim=1))
        for layer in self.rounds:
            groups = layer(groups, graph.edges, graph.edge_features)
        return groups


def _head(hidden: int, outputs: int) -> nn.Sequential:
    """Return two layers that say zero until they have learned something."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), last)
