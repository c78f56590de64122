"""One file per message-passing layer whose edges have states of their own: what metanetworks are made of."""

from prunepolicy.metanet.weight_network.edge_layers.registry import MakeEdgeLayer, edge_layers

__all__ = ["MakeEdgeLayer", "edge_layers"]
