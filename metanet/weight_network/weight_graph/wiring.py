"""What a graph of weights is put together from, while a network is followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from prunepolicy.metanet.weight_network.weight_graph.graph import Block, NodeSet, WeightGraph

NOBODY = -1
"""Number in place of a node's, where none is known."""


@dataclass
class Wiring:
    """Node sets and blocks so far.

    Attributes:
        shapes: of all the network's tensors, by name.
        unnormed: names of sets that a module has just written and no norm has scaled.
    """

    shapes: Mapping[str, tuple[int, ...]]
    node_sets: list[NodeSet] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)
    unnormed: set[str] = field(default_factory=set)
    _slots: dict[str, dict[str, str]] = field(default_factory=dict)

    def graph(self) -> WeightGraph:
        """Return what was put together."""
        return WeightGraph(tuple(self.node_sets), tuple(self.blocks), dict(self.shapes))

    def add_nodes(self, name: str, size: int) -> Tensor:
        """Add a set and return its nodes; a name that is taken gets a plus."""
        while name in self._slots:
            name += "+"
        start = self.node_sets[-1].start + self.node_sets[-1].size if self.node_sets else 0
        self._slots[name] = {}
        self.node_sets.append(NodeSet(name, start, size, self._slots[name]))
        return torch.arange(start, start + size)

    def set_of(self, node: Tensor) -> NodeSet:
        """Return the set that a node belongs to."""
        return next(nodes for nodes in self.node_sets if nodes.start <= int(node) < nodes.start + nodes.size)

    def nodes_of(self, name: str) -> Tensor | None:
        """Return the nodes of the set called `name`, if there is one."""
        for nodes in self.node_sets:
            if nodes.name == name:
                return torch.arange(nodes.start, nodes.start + nodes.size)
        return None

    def link(self, kind: str, targets: Tensor, sources: Tensor) -> None:
        """Let targets, shape (targets,), hear their sources, shape (targets, sources), without a weight."""
        heard = sources if sources.dim() == 2 else sources[:, None]
        self.blocks.append(Block(targets[:, None], heard, link=kind))

    def write(self, tensor: str, sources: Tensor | None, groups: int = 1, transposed: bool = False) -> Tensor:
        """Add the block of a weight that reads `sources`, and return the nodes that it writes.

        Args:
            sources: the nodes of its inputs, None where nobody knows.
        """
        shape = self.shapes[tensor][::-1] if transposed else self.shapes[tensor]
        module = tensor.rpartition(".")[0]
        nodes = self.add_nodes(module, shape[0])
        inputs = groups * shape[1]
        if sources is None:
            sources = self.add_nodes(f"{module} input", inputs)
        sources, places = _places_per_node(sources)
        taps = places * prod(shape[2:])
        block = Block(nodes.view(groups, -1), sources.view(groups, -1), taps, tensor, transposed=transposed)
        first = next((known for known in self.blocks if known.tensor == tensor), None)
        if first is None:
            self.blocks.append(block)
            self.unnormed.add(self.set_of(nodes[0]).name)
        else:  # The same weight again: its edges exist once, its ends are told that they are alike.
            self.link("tie", nodes, first.targets.flatten())
            self.link("tie", sources, first.sources.flatten())
        return nodes

    def place(self, nodes: Tensor, slot: str, tensor: str | None) -> bool:
        """Put a vector on the nodes it belongs to, and return whether that was possible."""
        if tensor is None or tensor in self.tables or self.is_placed(tensor):
            return False
        known = self.set_of(nodes[0])
        if known.size != len(nodes) or self.shapes[tensor] != (known.size,) or slot in known.slots:
            return False
        self._slots[known.name][slot] = tensor
        return True

    def is_placed(self, tensor: str) -> bool:
        """Return whether a vector lies on nodes already."""
        return any(tensor in slots.values() for slots in self._slots.values())

    def normed(self, nodes: Tensor, slots: Mapping[str, str | None]) -> Tensor:
        """Return the nodes that carry a norm: the normed ones where fresh, else ones of their own."""
        known, module = self.set_of(nodes[0]), next(filter(None, slots.values())).rpartition(".")[0]
        whole = torch.arange(known.start, known.start + known.size)
        if known.name in self.unnormed and torch.equal(nodes, whole):
            self.unnormed.remove(known.name)
            carriers = nodes
        else:
            carriers = self.add_nodes(module, len(nodes))
            self.link("normalise", carriers, nodes)
        for slot, tensor in slots.items():
            self.place(carriers, slot, tensor)
        return carriers

    def joined(self, kind: str, operands: list[Tensor]) -> Tensor:
        """Return one node per combination of nodes that meet in a sum or a product of tensors.

        Args:
            operands: node numbers, of shapes that broadcast.
        """
        pairs = torch.stack(torch.broadcast_tensors(*operands), dim=-1)
        if all(torch.equal(pairs[..., 0], pairs[..., i]) for i in range(1, len(operands))):
            return operands[0]
        unique, place = pairs.flatten(0, -2).unique(dim=0, return_inverse=True)
        nodes = self.add_nodes(f"{self.set_of(unique.max()).name}+", len(unique))
        for operand in unique.T:
            met = operand != NOBODY
            if met.any():
                self.link(kind, nodes[met], operand[met])
        return nodes[place].view(pairs.shape[:-1])


def _places_per_node(sources: Tensor) -> tuple[Tensor, int]:
    """Return sources without immediate repetition, and how often each came (places of a flattened image)."""
    unique, counts = sources.unique_consecutive(return_counts=True)
    places = int(counts[0])
    return (unique, places) if bool((counts == places).all()) else (sources, 1)
