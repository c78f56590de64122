"""Mean aggregation of messages from neighbours, which depend on the direction of the edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from prunepolicy.metanet.group_network.layers.registry import layers


@layers.register
class DirectedMean(MessagePassing):  # type: ignore[misc]  # torch-geometric has no types
    """One round of messages with a residual connection.

    Args:
        width: numbers per node.
        edge_features: numbers per edge.
    """

    def __init__(self, width: int, edge_features: int) -> None:
        super().__init__(aggr="mean")
        self.say = nn.Linear(width + edge_features, width)
        self.hear = nn.Linear(2 * width, width)

    def forward(self, nodes: Tensor, edges: Tensor, edge_features: Tensor) -> Tensor:
        """Return the nodes after one round of messages."""
        messages = self.propagate(edges, x=nodes, edge_features=edge_features)
        return nodes + torch.tanh(self.hear(torch.cat([nodes, messages], dim=1)))

    def message(self, x_j: Tensor, edge_features: Tensor) -> Tensor:
        """Return the message along every edge."""
        return torch.relu(self.say(torch.cat([x_j, edge_features], dim=1)))
