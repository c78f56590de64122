"""From the numbers on nodes and edges to states and back, whatever the scale of a network's weights.

Every tensor is read divided by its root mean square, which is one more feature, as a logarithm; what is
written is a share of it. Decoders begin at zero, so that nothing changes before something was learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from prunepolicy.metanet.weight_network.weight_graph.bundles import Bundle
from prunepolicy.metanet.weight_network.weight_graph.graph import LINKS, SLOTS, WRITTEN, WeightGraph, Weights

OF_SLOT = 3
"""Features per slot: the scaled entry, the logarithm of the scale, and whether there is an entry."""
MANY_TAPS = 64
"""From more entries per edge than these, the encoder has a narrower layer first."""
SMALLEST = 1e-12


def scales_of(weights: Weights) -> dict[str, Tensor]:
    """Return the root mean square of every tensor."""
    return {name: tensor.norm() / tensor.numel() ** 0.5 for name, tensor in weights.items()}


class NodeCoder(nn.Module):
    """Reads the vectors on nodes, and writes those that may change."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(len(SLOTS) * OF_SLOT, hidden)
        self.decoder = decoder(hidden, len(WRITTEN))

    def encode(self, graph: WeightGraph, weights: Weights, scales: Mapping[str, Tensor]) -> Tensor:
        """Return the first states of all nodes, shape (nodes, hidden)."""
        columns: list[Tensor] = []
        for slot in SLOTS:
            names = [name for _, name in graph.slotted(slot)]
            empty = self.encoder.weight.new_zeros(graph.size, OF_SLOT)
            if names:
                places = _places(graph, slot, empty.device)
                entries = torch.cat([_features(weights[name], scales[name]) for name in names])
                empty = empty.index_copy(0, places, entries.to(empty))
            columns.append(empty)
        states: Tensor = self.encoder(torch.cat(columns, dim=1))
        return states

    def decode(self, graph: WeightGraph, states: Tensor) -> dict[str, Tensor]:
        """Return by how much every vector changes, as shares of its scale."""
        changes = self.decoder(states)
        found = {}
        for column, slot in enumerate(WRITTEN):
            for nodes, name in graph.slotted(slot):
                found[name] = changes[nodes.start : nodes.start + nodes.size, column]
        return found


class EdgeCoder(nn.Module):
    """Reads the entries on edges, with one encoder and one decoder per number of taps, and writes them.

    Links have a learned state per kind instead.
    """

    def __init__(self, taps: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({str(count): _encoder(count, hidden) for count in taps})
        self.decoders = nn.ModuleDict({str(count): decoder(hidden, count) for count in taps})
        self.scale = nn.Linear(1, hidden, bias=False)
        self.links = nn.Parameter(torch.randn(len(LINKS), hidden))

    def encode(self, bundle: Bundle, entries: Tensor, scales: Tensor) -> Tensor:
        """Return the first states of a bundle's edges, shape (groups, rows, columns, hidden).

        Args:
            entries: of the weights, divided by their scales, shape (groups, rows, columns, taps).
            scales: of the weights, shape (groups,).
        """
        states: Tensor = self.encoders[str(bundle.taps)](entries)
        of_scale: Tensor = self.scale(_log(scales)[:, None])
        return states + of_scale[:, None, None]

    def link(self, bundle: Bundle) -> Tensor:
        """Return the first states of links, shape (groups, rows, columns, hidden)."""
        states: Tensor = self.links[bundle.links][:, None, None].expand(*bundle.shape, -1)
        return states

    def decode(self, bundle: Bundle, states: Tensor) -> Tensor:
        """Return by how much every entry changes, as a share of its weight's scale."""
        changes: Tensor = self.decoders[str(bundle.taps)](states)
        return changes


def decoder(hidden: int, outputs: int) -> nn.Sequential:
    """Return two layers that say zero until they have learned something."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    norm = nn.LayerNorm(hidden, elementwise_affine=False)
    return nn.Sequential(norm, nn.Linear(hidden, hidden), nn.SiLU(), last)


def _encoder(taps: int, hidden: int) -> nn.Module:
    if taps <= MANY_TAPS:
        return nn.Linear(taps, hidden)
    return nn.Sequential(nn.Linear(taps, MANY_TAPS), nn.SiLU(), nn.Linear(MANY_TAPS, hidden))


def _features(vector: Tensor, scale: Tensor) -> Tensor:
    columns = [vector / scale.clamp(min=SMALLEST), _log(scale).expand_as(vector), torch.ones_like(vector)]
    return torch.stack(columns, dim=1)


def _log(scales: Tensor) -> Tensor:
    return scales.clamp(min=SMALLEST).log()


@lru_cache(maxsize=256)
def _places(graph: WeightGraph, slot: str, device: torch.device) -> Tensor:
    """Return the nodes that have an entry in a slot, in the order of their sets."""
    ranges = [torch.arange(nodes.start, nodes.start + nodes.size) for nodes, _ in graph.slotted(slot)]
    return torch.cat(ranges).to(device)
