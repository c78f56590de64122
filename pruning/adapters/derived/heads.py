"""KV heads with their query heads, and query heads within them: what numbers of heads count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.derived.described import Described, NoGroupsError, UnitBlock
from prunepolicy.pruning.adapters.derived.movement import Axis, Movement, compared
from prunepolicy.pruning.adapters.derived.network import WRITERS
from prunepolicy.pruning.adapters.derived.offer import Offer
from prunepolicy.pruning.adapters.derived.paths import joined, number
from prunepolicy.pruning.adapters.derived.settings_by_name import HIDDEN
from prunepolicy.pruning.units import Gate, Slice, UnitGroup

QUERY_HEADS = "query_heads_per_kv_head"
"""The tie of query heads within a KV head, which no configuration states."""


@dataclass(frozen=True)
class Heads:
    """The numbers that speak of heads in a configuration."""

    offer: Offer
    config: Config

    @cached_property
    def queries(self) -> int:
        """The number of query heads."""
        return number(self.config, self.offer.heads) or 1

    @cached_property
    def kv(self) -> int:
        """The number of KV heads."""
        return number(self.config, self.offer.tie) or self.queries

    @property
    def per_kv(self) -> int:
        """The number of query heads of one KV head."""
        return self.queries // self.kv

    @property
    def explicit_size(self) -> dict[str, int]:
        """The size of a head by its path, as stated or as it follows; empty where no path is offered."""
        path = self.offer.head_dim
        return {path: self.size} if path else {}

    @property
    def size(self) -> int:
        """The size of a head: as stated, or as it follows from the hidden size."""
        return (
            number(self.config, self.offer.head_dim)
            or hidden_size(self.config, self.offer.heads) // self.queries
        )

    def stated(self, kv: int, per_kv: int) -> dict[str, int]:
        """Return what a configuration says of other numbers of heads, by path."""
        return self.explicit_size | {self.offer.tie: kv, self.offer.heads: kv * per_kv}


def head_groups(offer: Offer, found: Described) -> Iterator[UnitGroup]:
    """Yield the groups of KV heads with their query heads, and of query heads within these.

    Raises:
        NoGroupsError: when there are none.
    """
    heads = Heads(offer, found.config)
    moved = _moved(heads, found)
    apart = offer.queries and heads.per_kv > 1
    twice = {offer.heads: 2 * heads.queries}
    follow = compared(found.config, found.auto_class, twice, heads.explicit_size) if apart else {}
    widths = {axis: (after - before) // heads.queries for axis, (before, after) in follow.items()}
    for block in found.blocks(moved.axes):
        if block.module is None:
            raise NoGroupsError(f"the running model has no counterpart of {block.reader[0]}")
        yield _kv_heads(heads, moved, block, found.auto_class in WRITERS)
        if widths:
            yield _query_heads(heads, moved, block, widths)


def _moved(heads: Heads, found: Described) -> Movement:
    """Return what follows the number of KV heads when each keeps its query heads.

    Raises:
        NoGroupsError: when nothing does, or not in proportion.
    """
    other = heads.kv // 2 if heads.kv % 2 == 0 else heads.kv * 2
    changes = heads.stated(other, heads.per_kv)
    axes = compared(found.config, found.auto_class, changes, heads.explicit_size)
    if not axes:
        raise NoGroupsError("no tensor shrinks with the number of heads: their size follows from it")
    if any(before * other != after * heads.kv for before, after in axes.values()):
        raise NoGroupsError("tensors don't shrink in proportion to the number of heads")
    return Movement(heads.kv, {axis: before for axis, (before, _) in axes.items()})


def _kv_heads(heads: Heads, moved: Movement, block: UnitBlock, writes: bool) -> UnitGroup:
    """Return the group of KV heads of one block; they own a cache in networks that write."""
    slices = [part for axis in block.writers for part in _written(heads, moved, axis)]
    return UnitGroup(
        f"{block.name}.kv_heads",
        "kv_head",
        heads.kv,
        heads.offer.tie,
        (*slices, Slice(*block.reader, moved.per_unit(block.reader), consumer=True)),
        gate=Gate(block.module or ""),
        layer=block.layer,
        cache=2 * moved.axes[block.reader] // heads.queries if writes else 0,
    )


def _query_heads(heads: Heads, moved: Movement, block: UnitBlock, widths: Mapping[Axis, int]) -> UnitGroup:
    """Return the group of query heads within every KV head of one block."""
    slices = (
        Slice(
            *axis,
            widths[axis],
            blocks=heads.kv,
            period=_period(heads, moved, axis),
            consumer=axis == block.reader,
        )
        for axis in (*block.writers, block.reader)
        if axis in widths
    )
    return UnitGroup(
        f"{block.name}.query_heads",
        "query_head",
        heads.per_kv,
        joined(heads.offer.tie.rpartition(".")[0], QUERY_HEADS),
        tuple(slices),
        gate=Gate(block.module or ""),
        layer=block.layer,
    )


def _written(heads: Heads, moved: Movement, axis: Axis) -> Iterator[Slice]:
    """Yield what KV heads own of a tensor that writes them."""
    if heads.offer.layout_of(axis) == "runs":
        yield Slice(*axis, moved.per_unit(axis))
    else:
        size = moved.axes[axis] // (heads.queries + 2 * heads.kv)
        yield Slice(*axis, heads.per_kv * size)
        yield Slice(*axis, size, heads.queries * size)
        yield Slice(*axis, size, (heads.queries + heads.kv) * size)


def _period(heads: Heads, moved: Movement, axis: Axis) -> int:
    """Return how far the first query heads of neighbouring KV heads are apart."""
    if heads.offer.layout_of(axis) == "runs":
        return moved.per_unit(axis)
    return heads.per_kv * moved.axes[axis] // (heads.queries + 2 * heads.kv)


def hidden_size(config: Config, beside: str) -> int:
    """Return the hidden size in the part of a configuration that holds another path; 0 where none is."""
    part = beside.rpartition(".")[0]
    return next((n for key in HIDDEN if (n := number(config, joined(part, key)))), 0)
