"""Which tensor-parallel sizes and quantisation group sizes fit a network's widths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.units import UnitGraph

GROUP_SIZES = (16, 32, 64, 128, 256)
"""Consecutive inputs of a matrix that share a scale, in the usual formats."""


@dataclass(frozen=True)
class Widths:
    """The sizes along which a network is split and quantised.

    Attributes:
        read: input widths of matrices that read what units write (FFN channels, heads): tensor parallelism
            splits them.
        whole: input widths of the other matrices, which every device reads whole.
    """

    read: frozenset[int]
    whole: frozenset[int]

    @classmethod
    def of(cls, graph: UnitGraph) -> Widths:
        """Read them from the shapes of the matrices that FFN channels and heads are parts of."""
        read: set[int] = set()
        whole: set[int] = set()
        for group in graph.of_kind("ffn", "kv_head", "query_head"):
            for part in group.slices:
                shape = graph.tensors[part.tensor].shape
                if len(shape) == 2:
                    inputs = part.axis if part.consumer else 1 - part.axis
                    (read if part.consumer else whole).add(shape[inputs])
        return cls(frozenset(read), frozenset(whole))

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """The quantisation group sizes that divide all of them."""
        widths = self.read | self.whole
        return tuple(size for size in GROUP_SIZES if widths and not any(width % size for width in widths))


def misfits(graph: UnitGraph, sizes: tuple[int, ...], tp: int | None, group: int | None) -> Iterator[str]:
    """Yield a sentence for everything that doesn't fit.

    Args:
        sizes: numbers of devices that whole heads and FFN channels divide among.
        tp: devices to split over.
        group: quantisation group size; with `tp`, of the share of every device.

    Raises:
        UsageError: where either isn't positive.
    """
    for wanted in (tp, group):
        if wanted is not None and wanted < 1:
            raise UsageError(f"--tp and --group are 1 or more; got {wanted}.")
    if tp and tp not in sizes:
        yield from _indivisible(graph, tp)
    if not group:
        return
    widths = Widths.of(graph)
    for width in sorted(widths.whole):
        if width % group:
            yield f"An input width of {width} isn't a multiple of the quantisation group size {group}."
    step = group * (tp or 1)
    for width in sorted(widths.read):
        if width % step:
            yield (
                f"A width of {width} in FFN or attention isn't a multiple of {step} (quantisation group size "
                f"times devices); for an FFN, prune with --multiple-of {step}."
            )


def _indivisible(graph: UnitGraph, tp: int) -> Iterator[str]:
    for kind, name in (("kv_head", "KV heads"), ("ffn", "FFN channels")):
        for size in sorted({group.size for group in graph.of_kind(kind)}):
            if size % tp:
                advice = f"; prune with --multiple-of {tp}" if kind == "ffn" else ""
                yield f"{size} {name} don't divide among {tp} devices{advice}."
