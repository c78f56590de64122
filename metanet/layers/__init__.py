"""One file per message-passing layer; the only code that imports torch-geometric."""

from prunepolicy.metanet.layers.registry import MakeEdgeLayer, MakeLayer, edge_layers, layers

__all__ = ["MakeEdgeLayer", "MakeLayer", "edge_layers", "layers"]
