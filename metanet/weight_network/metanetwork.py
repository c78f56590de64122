"""The metanetwork: reads the weights of a network, and returns weights that are easier to prune."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from prunepolicy.metanet.weight_network.coders import SMALLEST, EdgeCoder, NodeCoder, scales_of
from prunepolicy.metanet.weight_network.edge_layers import edge_layers
from prunepolicy.metanet.weight_network.heads import DecisionHead, UnitHead
from prunepolicy.metanet.weight_network.paths import paths
from prunepolicy.metanet.weight_network.weight_graph.bundles import Bundle, BundlePlan, bundle_plan
from prunepolicy.metanet.weight_network.weight_graph.graph import WeightGraph, Weights

Head = Literal["weights", "gates", "scores", "decisions"]
LARGE_BUNDLE = 1 << 17
"""Edges of a bundle where states are streamed: statistics of each bundle are kept, so few are better."""


@dataclass(frozen=True)
class MetanetworkSettings:
    """What a metanetwork is made of.

    Attributes:
        layers: rounds of message passing.
        hidden: numbers per node and per edge; even.
        step: how far weights move, as a share of their root mean square, where a decoder outputs 1.
        layer: name of the edge layer.
        taps: kernel sizes with an encoder of their own; others are read entry by entry.
        path: `blocks` computes layers anew on the way back, `streamed_blocks` every block's states as well
            and so needs the least memory, `messages` follows every edge as published; all with one result.
            Layers without blocks always take `messages`.
        most_edges: of a bundle of blocks that is computed at once.
        head: what it outputs: a network's `weights`, or a number per unit, for `gates`, `scores` or
            `decisions`.
    """

    layers: int = 4
    hidden: int = 16
    step: float = 0.01
    layer: str = "two_way_product"
    taps: tuple[int, ...] = (1, 9, 25, 49, 256)
    path: str = "blocks"
    most_edges: int = 1 << 13
    head: Head = "weights"


class Metanetwork(nn.Module):
    """Reads networks of any architecture and width; before it has learned anything, it changes nothing."""

    def __init__(self, settings: MetanetworkSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or MetanetworkSettings()
        make, hidden = edge_layers[self.settings.layer], self.settings.hidden
        self.nodes = NodeCoder(hidden)
        self.edges = EdgeCoder(self.settings.taps, hidden)
        self.layers = nn.ModuleList(make(hidden) for _ in range(self.settings.layers))
        self.units = _unit_head(self.settings)

    def forward(self, graph: WeightGraph, weights: Weights) -> dict[str, Tensor]:
        """Return all tensors of a network, the weights among them modified.

        Args:
            weights: parameters and buffers by name; what the graph doesn't claim is returned as it is.
        """
        reading = _Reading(self, graph, weights)
        states, shares = reading.run(with_edges=True)
        changes = self.nodes.decode(graph, states) | reading.plan.tensors(shares)
        return dict(weights) | {name: reading.moved(name, change) for name, change in changes.items()}

    def streamed(self) -> Metanetwork:
        """Return this metanetwork, sharing its weights, on the path that needs the least memory."""
        other = copy(self)
        other.settings = replace(self.settings, path="streamed_blocks", most_edges=LARGE_BUNDLE)
        return other

    def node_states(self, graph: WeightGraph, weights: Weights) -> Tensor:
        """Return the last states of nodes, shape (nodes, hidden)."""
        return _Reading(self, graph, weights).run(with_edges=False)[0]


def _unit_head(settings: MetanetworkSettings) -> nn.Module | None:
    if settings.head == "weights":
        return None
    return (DecisionHead if settings.head == "decisions" else UnitHead)(settings.hidden)


class _Reading:
    """One network that is being read: its tensors in the metanetwork's precision, and their scales."""

    def __init__(self, metanetwork: Metanetwork, graph: WeightGraph, weights: Weights) -> None:
        self.metanetwork, self.graph, self.original = metanetwork, graph, weights
        like = metanetwork.edges.links
        self.weights: Mapping[str, Tensor] = {name: weights[name].to(like) for name in graph.claimed}
        self.scales = scales_of(self.weights)
        settings = metanetwork.settings
        self.plan: BundlePlan = bundle_plan(graph, settings.taps, settings.most_edges, like.device)

    def run(self, with_edges: bool) -> tuple[Tensor, list[Tensor]]:
        """Return the last states of nodes, and of every bundle with weights the share by which it changes."""
        coder = self.metanetwork.edges
        decode = coder.decode if with_edges else lambda bundle, states: states.new_zeros(())
        nodes = self.metanetwork.nodes.encode(self.graph, self.weights, self.scales)
        layers = self.metanetwork.layers
        in_blocks = all(getattr(layer, "has_blocks", False) for layer in layers)
        path = paths[self.metanetwork.settings.path if in_blocks else "messages"]
        return path(layers, nodes, self.plan.bundles, self.encoded, decode)

    def encoded(self, bundle: Bundle) -> Tensor:
        """Return the first states of a bundle's edges."""
        if bundle.links is not None:
            return self.metanetwork.edges.link(bundle)
        scales = bundle.per_group([self.scales[name] for name in bundle.tensors])
        entries = self.plan.entries(bundle, self.weights) / scales.clamp(min=SMALLEST)[:, None, None, None]
        return self.metanetwork.edges.encode(bundle, entries, scales)

    def moved(self, name: str, share: Tensor) -> Tensor:
        """Return a tensor that has changed by a share of its scale."""
        change: Tensor = self.metanetwork.settings.step * self.scales[name] * share
        return self.original[name] + change.to(self.original[name].dtype)
