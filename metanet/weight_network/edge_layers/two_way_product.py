"""Messages that are products of two nodes and the edge between them, along every edge and against it.

Source: the public code of Liu et al., "Meta Pruning via Graph Metanetworks" (arXiv 2506.12041), without the
part of every layer that it never calls.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch_geometric.nn import MessagePassing

from prunepolicy.metanet.weight_network.edge_layers.registry import edge_layers

AGGREGATIONS = ("mean", "std", "max", "min")


@edge_layers.register
class TwoWayProduct(MessagePassing):  # type: ignore[misc]  # torch-geometric has no types
    """One round in which nodes and edges change; `paths.by_blocks` computes the same on whole blocks.

    Attributes:
        has_blocks: such a path exists.
        say, hear: what a node's neighbours, and the node itself, contribute to a message.
        start, end: what the two ends of an edge contribute to its change.
        mix: from all aggregations to a node's update.
        sign: what tells the direction against the edges apart, shape (width,).

    Args:
        width: numbers per node and per edge; even.
    """

    has_blocks = True
    sign: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(aggr=list(AGGREGATIONS))
        self.say, self.hear, self.start, self.end = (
            nn.Sequential(nn.Linear(width, width), nn.SiLU()) for _ in range(4)
        )
        self.mix = nn.Linear(len(AGGREGATIONS) * width, width)
        half = torch.ones(width // 2)
        self.register_buffer("sign", torch.cat([half, -torch.ones(width - width // 2)]), persistent=False)

    def forward(self, nodes: Tensor, edges: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return nodes, shape (nodes, width), and states of edges, shape (edges, width), after the round.

        Args:
            edges: pairs of nodes, from source to target, shape (2, edges).
        """
        normed = layer_norm(nodes, nodes.shape[-1:])
        forwards, change = self._along(normed, edges, states)
        backwards, change_back = self._along(normed, edges.flip(0), self.sign * states)
        return nodes + forwards + backwards, states + change + self.sign * change_back

    def _along(self, nodes: Tensor, edges: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the changes of nodes and edges by messages in one direction."""
        messages = self.propagate(edges, sent=self.say(nodes), received=self.hear(nodes), states=states)
        change = self.start(nodes)[edges[0]] * self.end(nodes)[edges[1]] * states
        return self.mix(messages), change

    def message(self, sent_j: Tensor, received_i: Tensor, states: Tensor) -> Tensor:
        """Return the message along every edge."""
        return sent_j * received_i * states
