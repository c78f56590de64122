"""A network as a graph of its weights: lossless, differentiable both ways, for any widths."""

from prunepolicy.metanet.weight_network.weight_graph.architectures import weight_graph_of
from prunepolicy.metanet.weight_network.weight_graph.graph import SLOTS, WRITTEN, Block, NodeSet, WeightGraph
from prunepolicy.metanet.weight_network.weight_graph.tracing import trace

__all__ = ["SLOTS", "WRITTEN", "Block", "NodeSet", "WeightGraph", "trace", "weight_graph_of"]
