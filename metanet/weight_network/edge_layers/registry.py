"""The registry of message-passing layers whose edges have states."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from prunepolicy.pruning.registry import Registry

MakeEdgeLayer = Callable[[int], nn.Module]
"""From a width to a module that maps nodes (nodes, width), edges (2, edges) and states of edges
(edges, width) to nodes and states. One that says `has_blocks` has the parts that `paths.by_blocks` uses."""

edge_layers: Registry[MakeEdgeLayer] = Registry(
    "edge layer", "prunepolicy.metanet.weight_network.edge_layers"
)
