"""Blocks of one shape put together, so that few operations read a whole network; large ones in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import ceil

import torch
from torch import Tensor

from prunepolicy.metanet.weight_network.weight_graph.graph import LINKS, Block, WeightGraph, Weights

REMEMBERED = 256
"""Plans that are kept, over all architectures."""


@dataclass(frozen=True)
class Piece:
    """Some rows and some taps of a block.

    Attributes:
        block: number among the graph's blocks.
    """

    block: int
    rows: slice
    taps: slice


@dataclass(frozen=True, eq=False)
class Bundle:
    """Pieces of one shape, one after the other along their groups.

    Attributes:
        pieces: in that order.
        groups: how many groups each piece has.
        tensors: the weight of each piece; empty for links.
        targets: nodes that are written, shape (groups, rows).
        sources: nodes that are read, shape (groups, columns).
        taps: entries on every edge.
        links: index in `LINKS` of every group's kind, shape (groups,); None where edges have weights.
    """

    pieces: tuple[Piece, ...]
    groups: tuple[int, ...]
    tensors: tuple[str, ...]
    targets: Tensor
    sources: Tensor
    taps: int
    links: Tensor | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Groups, rows and columns."""
        return *self.targets.shape, self.sources.shape[1]

    def per_group(self, per_piece: Sequence[Tensor]) -> Tensor:
        """Repeat one number per piece for each of its groups, shape (groups,)."""
        repeats = torch.tensor(self.groups, device=per_piece[0].device)
        return torch.stack(list(per_piece)).repeat_interleave(repeats)


@dataclass(frozen=True, eq=False)
class BundlePlan:
    """How the blocks of a graph are bundled, on one device."""

    graph: WeightGraph
    bundles: tuple[Bundle, ...]

    def entries(self, bundle: Bundle, weights: Weights) -> Tensor:
        """Return what lies on a bundle's edges, shape (groups, rows, columns, taps)."""
        parts = [
            self.graph.blocks[piece.block].entries(weights)[:, piece.rows, :, piece.taps]
            for piece in bundle.pieces
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def tensors(self, entries: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return entries of all bundles that have weights as tensors by name: the inverse of `entries`."""
        found: dict[int, list[tuple[Piece, Tensor]]] = {}
        weighted = [bundle for bundle in self.bundles if bundle.links is None]
        for bundle, values in zip(weighted, entries, strict=True):
            for piece, part in zip(bundle.pieces, values.split(bundle.groups), strict=True):
                found.setdefault(piece.block, []).append((piece, part))
        tensors = {}
        for number, pieces in found.items():
            block = self.graph.blocks[number]
            tensors[block.tensor] = block.tensor_of(_assembled(pieces), self.graph.shapes[block.tensor])
        return tensors


def _assembled(pieces: list[tuple[Piece, Tensor]]) -> Tensor:
    """Put pieces of one block together, rows first, then taps."""
    ordered = sorted(pieces, key=lambda pair: (pair[0].taps.start, pair[0].rows.start))
    by_taps = groupby(ordered, key=lambda pair: pair[0].taps.start)
    columns = [[part for _, part in rows] for _, rows in by_taps]
    whole = [torch.cat(parts, dim=1) if len(parts) > 1 else parts[0] for parts in columns]
    return torch.cat(whole, dim=3) if len(whole) > 1 else whole[0]


@lru_cache(maxsize=REMEMBERED)
def bundle_plan(
    graph: WeightGraph, taps: tuple[int, ...], most_edges: int, device: torch.device
) -> BundlePlan:
    """Bundle the blocks of a graph.

    Args:
        taps: numbers of entries per edge that are read as they are; others are read one by one, as
            parallel edges.
        most_edges: of a bundle; larger blocks come in parts.
    """
    alike: dict[tuple[object, ...], list[tuple[Piece, Block]]] = {}
    for number, block in enumerate(graph.blocks):
        for piece in _pieces(number, block, taps, most_edges):
            shape = (piece.rows.stop - piece.rows.start, block.shape[2], piece.taps.stop - piece.taps.start)
            alike.setdefault((*shape, bool(block.link)), []).append((piece, block))
    found = [bundle for pieces in alike.values() for bundle in _bundles(pieces, most_edges, device)]
    return BundlePlan(graph, tuple(found))


def _pieces(number: int, block: Block, taps: tuple[int, ...], most_edges: int) -> list[Piece]:
    """Return a block in parts that are small enough, and of known numbers of taps."""
    _, rows, columns, count = block.shape
    width = count if count in taps else 1
    height = ceil(rows / max(1, ceil(rows * columns / most_edges)))
    return [
        Piece(number, slice(row, min(rows, row + height)), slice(tap, tap + width))
        for tap in range(0, count, width)
        for row in range(0, rows, height)
    ]


def _bundles(pieces: list[tuple[Piece, Block]], most_edges: int, device: torch.device) -> list[Bundle]:
    """Return pieces of one shape in bundles of a bounded size."""
    bundles: list[Bundle] = []
    waiting: list[tuple[Piece, Block]] = []
    edges = 0
    for piece, block in pieces:
        more = block.shape[0] * (piece.rows.stop - piece.rows.start) * block.shape[2]
        if waiting and edges + more > most_edges:
            bundles.append(_bundle(waiting, device))
            waiting, edges = [], 0
        waiting.append((piece, block))
        edges += more
    return [*bundles, _bundle(waiting, device)]


def _bundle(pieces: list[tuple[Piece, Block]], device: torch.device) -> Bundle:
    groups = tuple(block.shape[0] for _, block in pieces)
    is_link = bool(pieces[0][1].link)
    kinds = [LINKS.index(block.link) for _, block in pieces for _ in range(block.shape[0]) if is_link]
    return Bundle(
        tuple(piece for piece, _ in pieces),
        groups,
        tuple(block.tensor for _, block in pieces if not is_link),
        torch.cat([block.targets[:, piece.rows] for piece, block in pieces]).to(device),
        torch.cat([block.sources for _, block in pieces]).to(device),
        pieces[0][0].taps.stop - pieces[0][0].taps.start,
        torch.tensor(kinds, device=device) if is_link else None,
    )
