"""The registry of message-passing layers."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from prunepolicy.pruning.registry import Registry

MakeLayer = Callable[[int, int], nn.Module]
"""From width and number of edge features to a module that maps nodes (nodes, width), edges (2, edges) and
edge features (edges, features) to nodes (nodes, width)."""

layers: Registry[MakeLayer] = Registry("layer", "prunepolicy.metanet.group_network.layers")
