"""The published graph of a CIFAR ResNet and its metanetwork, restated: padded kernels, dense identity blocks.

Source: the public code of Liu et al., "Meta Pruning via Graph Metanetworks" (arXiv 2506.12041). Its layer is
ours (`two_way_product`); what differs is the graph. All weights are read and written by name.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunepolicy.metanet.weight_network.edge_layers import edge_layers
from prunepolicy.metanet.weight_network.paths import paths
from prunepolicy.metanet.weight_network.weight_graph.bundles import Bundle

TAPS = 9
CENTRE = 4
VECTORS = ("weight", "bias", "running_mean", "running_var")
SIZES = {"layers": 8, "hidden": 64}
"""Of the metanetwork for ResNet-56."""
RATIO = 0.01


class PublishedGraph:
    """One node per output channel, one 9-vector per pair of channels.

    Attributes:
        sizes: nodes per layer of channels.
        weights: per block its weight, the layers it goes from and to; None for an identity shortcut.
        norms: per layer of channels its norm, and the norm of its shortcut.
    """

    def __init__(self, model: nn.Module) -> None:
        self.sizes: list[int] = []
        self.weights: list[tuple[str | None, int, int]] = []
        self.norms: list[tuple[str | None, str | None]] = []
        modules = dict(model.named_modules())
        self._add(modules["conv1"].in_channels, None)
        self._add(modules["conv1"].out_channels, "bn1")
        self.weights.append(("conv1.weight", 0, 1))
        for name in (name for name in modules if name.endswith(".conv1")):
            self._block(name.removesuffix(".conv1"), modules)
        self._add(modules["fc"].out_features, None)
        self.weights.append(("fc.weight", len(self.sizes) - 2, len(self.sizes) - 1))
        self.starts = [sum(self.sizes[:place]) for place in range(len(self.sizes))]

    def _add(self, size: int, norm: str | None, shortcut: str | None = None) -> None:
        self.sizes.append(size)
        self.norms.append((norm, shortcut))

    def _block(self, block: str, modules: dict[str, nn.Module]) -> None:
        before = len(self.sizes) - 1
        convs = modules[f"{block}.conv1"], modules[f"{block}.conv2"]
        shortcut = f"{block}.downsample.1" if f"{block}.downsample.0" in modules else None
        self._add(convs[0].out_channels, f"{block}.bn1")
        self._add(convs[1].out_channels, f"{block}.bn2", shortcut)
        self.weights.append((f"{block}.conv1.weight", before, before + 1))
        self.weights.append((f"{block}.conv2.weight", before + 1, before + 2))
        self.weights.append((f"{block}.downsample.0.weight" if shortcut else None, before, before + 2))

    @property
    def edges(self) -> int:
        """The number of edges."""
        return sum(self.sizes[source] * self.sizes[target] for _, source, target in self.weights)

    def bundles(self) -> tuple[Bundle, ...]:
        """Return every block as a bundle of its own."""
        nodes = [torch.arange(start, start + n) for start, n in zip(self.starts, self.sizes, strict=True)]
        return tuple(
            Bundle((), (1,), (weight or "",), nodes[target][None], nodes[source][None], TAPS, None)
            for weight, source, target in self.weights
        )

    def node_features(self, weights: dict[str, Tensor]) -> Tensor:
        """Return scale, shift, mean and variance of the norm and of the shortcut's, shape (nodes, 8)."""
        rows = []
        for size, norms in zip(self.sizes, self.norms, strict=True):
            columns = [column for norm in norms for column in _norm(weights, norm, size)]
            rows.append(torch.stack(columns, dim=1))
        rows[-1] = torch.cat([rows[-1][:, :1], weights["fc.bias"][:, None], rows[-1][:, 2:]], dim=1)
        return torch.cat(rows)

    def edge_features(self, weights: dict[str, Tensor]) -> Iterator[Tensor]:
        """Yield per block its kernels, padded to 9 entries, shape (1, rows, columns, 9)."""
        for weight, source, _ in self.weights:
            kernels = torch.eye(self.sizes[source])[:, :, None] if weight is None else weights[weight]
            kernels = kernels.flatten(2) if kernels.dim() > 2 else kernels[:, :, None]
            padding = (CENTRE, TAPS - 1 - CENTRE) if kernels.shape[2] == 1 else (0, 0)
            yield functional.pad(kernels, padding)[None]

    def written(self, weights: dict[str, Tensor], nodes: Tensor, kernels: list[Tensor]) -> dict[str, Tensor]:
        """Return the network with the changes of nodes, shape (nodes, 8), and of kernels."""
        changed = dict(weights)
        for start, size, norms in zip(self.starts, self.sizes, self.norms, strict=True):
            for place, norm in enumerate(norms):
                for column, vector in enumerate(VECTORS[:2] if norm else ()):
                    name = f"{norm}.{vector}"
                    changed[name] = weights[name] + nodes[start : start + size, 4 * place + column]
        changed["fc.bias"] = weights["fc.bias"] + nodes[self.starts[-1] :, 1]
        for (name, _, _), kernel in zip(self.weights, kernels, strict=True):
            if name is not None:
                wide = weights[name].dim() > 2 and weights[name].shape[2] == 3
                own = kernel[0] if wide else kernel[0, :, :, CENTRE : CENTRE + 1]
                changed[name] = weights[name] + own.reshape(weights[name].shape)
        return changed


class PublishedMetanetwork(nn.Module):
    """Encoders, layers and decoders as published; its path through the layers is free."""

    def __init__(self, graph: PublishedGraph, path: str, layers: int, hidden: int) -> None:
        super().__init__()
        self.graph, self.path = graph, paths[path]
        self.node_encoder, self.edge_encoder = nn.Linear(8, hidden), nn.Linear(TAPS, hidden)
        self.layers = nn.ModuleList(edge_layers["two_way_product"](hidden) for _ in range(layers))
        self.node_decoder, self.edge_decoder = _decoder(hidden, 8), _decoder(hidden, TAPS)

    def forward(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's tensors, modified."""
        bundles = self.graph.bundles()
        kernels = dict(zip(map(id, bundles), self.graph.edge_features(weights), strict=True))
        states, changes = self.path(
            self.layers,
            self.node_encoder(self.graph.node_features(weights)),
            bundles,
            lambda bundle: self.edge_encoder(kernels[id(bundle)]),
            lambda bundle, states: RATIO * self.edge_decoder(states),
        )
        return self.graph.written(weights, RATIO * self.node_decoder(states), changes)


def _norm(weights: dict[str, Tensor], norm: str | None, size: int) -> list[Tensor]:
    if norm is None:
        return [torch.full((size,), value) for value in (1.0, 0.0, 0.0, 1.0)]
    return [weights[f"{norm}.{vector}"] for vector in VECTORS]


def _decoder(hidden: int, outputs: int) -> nn.Sequential:
    norm = nn.LayerNorm(hidden, elementwise_affine=False)
    return nn.Sequential(norm, nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs))
