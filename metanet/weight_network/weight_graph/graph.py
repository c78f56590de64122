"""Node sets, blocks of edges, and where in a network's tensors their numbers lie.

A node is a channel; a block is one weight, whose entries lie on the edges between two sets of nodes.
Everything is keyed by the name of a tensor, nothing by its place in a state dict or by its width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from torch import Tensor

Weights = Mapping[str, Tensor]

SLOTS = ("scale", "shift", "bias", "mean", "variance")
"""Vectors that nodes may have an entry of: of a norm, of the module that writes them, of batch statistics."""
WRITTEN = SLOTS[:3]
"""Those that may change; statistics are only read."""


@dataclass(frozen=True)
class NodeSet:
    """Channels that are written together.

    Attributes:
        name: of the module that writes them; `+` marks what comes of several together.
        start: number of the first node.
        slots: names of the vectors of which every node has one entry, by slot.
    """

    name: str
    start: int
    size: int
    slots: Mapping[str, str]


@dataclass(frozen=True)
class Block:
    """Complete bipartite graphs between nodes, one per group, with the entries of a weight on their edges.

    A depthwise convolution is one group per channel, and so is what joins the branches of a sum.

    Attributes:
        targets: nodes that are written, shape (groups, rows).
        sources: nodes that are read, shape (groups, columns).
        taps: entries on every edge: the size of the kernel.
        tensor: name of the weight; empty for a link, which has no weight.
        link: what a link stands for, one of `LINKS`.
        transposed: the weight is stored (in, out).
    """

    targets: Tensor
    sources: Tensor
    taps: int = 1
    tensor: str = ""
    link: str = ""
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Groups, rows, columns and taps."""
        groups, rows = self.targets.shape
        return groups, rows, self.sources.shape[1], self.taps

    def entries(self, weights: Weights) -> Tensor:
        """Return the weight's entries edge by edge, shape (groups, rows, columns, taps); a view."""
        weight = weights[self.tensor]
        return (weight.T if self.transposed else weight).reshape(self.shape)

    def tensor_of(self, entries: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return entries as the weight of this shape: the inverse of `entries`."""
        return entries.reshape(shape[::-1]).T if self.transposed else entries.reshape(shape)


LINKS = ("add", "multiply", "normalise", "attend", "tie")
"""What edges without a weight stand for."""


@dataclass(frozen=True, eq=False)
class WeightGraph:
    """The wiring of one architecture at one set of widths; it holds no weights.

    Attributes:
        node_sets: in the order in which signals pass them.
        blocks: weights and links between them.
        shapes: of all the network's tensors, by name.
    """

    node_sets: tuple[NodeSet, ...]
    blocks: tuple[Block, ...]
    shapes: Mapping[str, tuple[int, ...]]

    @cached_property
    def size(self) -> int:
        """The number of nodes."""
        return sum(nodes.size for nodes in self.node_sets)

    @cached_property
    def edges(self) -> int:
        """The number of edges, links included."""
        return sum(prod(block.shape[:3]) for block in self.blocks)

    @cached_property
    def claimed(self) -> frozenset[str]:
        """Names of the tensors that lie on nodes or edges."""
        on_nodes = {tensor for nodes in self.node_sets for tensor in nodes.slots.values()}
        return frozenset(on_nodes | {block.tensor for block in self.blocks if block.tensor})

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """Names of the tensors that are neither, and pass unchanged."""
        return tuple(name for name in self.shapes if name not in self.claimed)

    @cached_property
    def weight_blocks(self) -> tuple[Block, ...]:
        """The blocks that hold a weight."""
        return tuple(block for block in self.blocks if block.tensor)

    def slotted(self, slot: str) -> tuple[tuple[NodeSet, str], ...]:
        """Return the sets whose nodes have an entry in a slot, and the names of these vectors."""
        return tuple((nodes, nodes.slots[slot]) for nodes in self.node_sets if slot in nodes.slots)

    def read(self, weights: Weights) -> GraphValues:
        """Return the numbers of a network of this architecture; views where that is possible."""
        nodes = {slot: [weights[name] for _, name in self.slotted(slot)] for slot in SLOTS}
        return GraphValues(nodes, [block.entries(weights) for block in self.weight_blocks])

    def write(self, values: GraphValues, weights: Weights) -> dict[str, Tensor]:
        """Return the network that has these numbers: the inverse of `read`.

        Args:
            weights: give what nodes and edges don't hold.
        """
        written = dict(weights)
        for slot, vectors in values.nodes.items():
            written |= {name: v for (_, name), v in zip(self.slotted(slot), vectors, strict=True)}
        for block, entries in zip(self.weight_blocks, values.blocks, strict=True):
            written[block.tensor] = block.tensor_of(entries, self.shapes[block.tensor])
        return written


@dataclass(frozen=True)
class GraphValues:
    """The numbers on a graph of weights.

    Attributes:
        nodes: per slot the vectors of the sets that have it.
        blocks: per block with a weight its entries, shape (groups, rows, columns, taps).
    """

    nodes: Mapping[str, list[Tensor]]
    blocks: list[Tensor]
