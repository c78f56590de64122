"""One file per message-passing layer; the only code that imports torch-geometric."""

from prunepolicy.metanet.group_network.layers.registry import MakeLayer, layers

__all__ = ["MakeLayer", "layers"]
