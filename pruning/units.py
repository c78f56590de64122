"""What can be removed from a network, and where it lives: slices, unit groups, the unit graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

Keep = Mapping[str, tuple[int, ...]]

KIND_NAMES = {
    "ffn": "FFN channels",
    "kv_head": "KV heads",
    "query_head": "query heads per KV head",
    "layer": "layers",
    "expert": "experts",
    "channel": "channels",
    "vocabulary": "tokens",
}
"""What readers see of each kind of unit."""
VOCABULARY = "vocabulary"
"""Kind, and name, of the group whose units are tokens."""


@dataclass(frozen=True)
class Slice:
    """The indices along one tensor axis that belong to the units of a group.

    Unit `u` owns `offset + block * period + u * width + [0, width)` for every block. A plain
    linear layer has `width=1, blocks=1`; a KV head has `width=head_dim`; the k-th query head of
    every KV group has `blocks=kv_heads` and `period=group_width`; the second half of a fused
    projection has an `offset`.

    Attributes:
        tensor: name in the checkpoint.
        consumer: the tensor reads what the units write, so that zeroing these entries silences
            the units.
    """

    tensor: str
    axis: int
    width: int = 1
    offset: int = 0
    blocks: int = 1
    period: int = 0
    consumer: bool = False

    def indices(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the axis indices of `units`, shape (blocks, units, width)."""
        starts = self.offset + self.period * np.arange(self.blocks)[:, None] + self.width * units
        return starts[:, :, None] + np.arange(self.width)


@dataclass(frozen=True)
class Gate:
    """Where one multiplier per unit acts on the running model.

    Attributes:
        module: module name, as in the checkpoint's tensor names.
        how: `input` scales the module's input along its last axis, `output` scales channels of
            its output (axis 1), `residual` scales what a layer adds to its input, `router`
            forbids experts, `fused_experts` scales one expert's columns inside a stacked tensor.
        expert: index of the expert, for `fused_experts`; None for all experts at once.
        also: further modules that write the same units (all batch norms that add to one residual
            stream), for `output`; the module that holds the experts, for `router`.
    """

    module: str
    how: str = "input"
    expert: int | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnitGroup:
    """`size` interchangeable units of one layer.

    Attributes:
        kind: `ffn`, `kv_head`, `query_head`, `layer`, `expert`, `channel` or `vocabulary`.
        slices: the tensor entries the units own.
        prefix: units own whole tensors called `f"{prefix}{unit}."` (layers, experts); those that
            stay are renumbered.
        tie: configuration key that states this group's size. Groups with one tie keep equal
            numbers of units in any checkpoint that plain runtimes load.
        cache: numbers that one unit keeps in the KV-cache, per token.
        layer: index of the layer the group lives in, None for whole-network groups.
        within: group name and unit (an expert) that takes this group along when it goes.
        floor: fewest units that may stay.
        multiple_of: the number of units that stays is a multiple of this.
        period: how many neighbours go together, unless a plan says otherwise: layers whose kinds take
            turns (local and global attention), which some runtimes take for granted.
    """

    name: str
    kind: str
    size: int
    tie: str
    slices: tuple[Slice, ...] = ()
    prefix: str = ""
    gate: Gate | None = None
    layer: int | None = None
    within: tuple[str, int] | None = None
    cache: int = 0
    floor: int = 1
    multiple_of: int = 1
    period: int = 1

    def keeps_turns(self, kept: Sequence[int]) -> bool:
        """Return whether the kinds of the units that stay take turns as those of all units do."""
        return all(unit % self.period == place % self.period for place, unit in enumerate(kept))


def written_by(group: UnitGroup, module: str) -> Slice:
    """Return what the group's units own of a module that writes them."""
    return next(part for part in group.slices if part.tensor.startswith(f"{module}.") and not part.consumer)


def consumer_of(group: UnitGroup) -> Slice:
    """Return the weight that reads what the group's units write."""
    return next(part for part in group.slices if part.consumer)


def read_by_columns(group: UnitGroup) -> bool:
    """Return whether each unit is one column of the weight that reads it, which a repair can re-fit."""
    part = consumer_of(group)
    return group.gate is not None and group.gate.how == "input" and part.width == part.blocks == 1


@dataclass(frozen=True)
class TensorSpec:
    """Shape and price of one tensor.

    Attributes:
        shape: its sizes.
        flops: floating-point operations per entry per token (per image for convolutions).
        average_over: name of the expert group of which `flops` is shared: whatever number of
            experts stays, the tokens are spread over them.
        bytes_per_entry: bytes of one stored entry.
        is_parameter: False for buffers (running statistics), which are stored but not trained.
    """

    shape: tuple[int, ...]
    flops: float = 0.0
    average_over: str | None = None
    bytes_per_entry: int = 2
    is_parameter: bool = True


@dataclass(frozen=True)
class UnitGraph:
    """A network as groups of removable units; built from configuration and shapes alone.

    Attributes:
        family: name of the adapter that knows this architecture.
        tensors: every tensor of the checkpoint.
        groups: in the order in which signals pass them.
        edges: pairs of group indices, from writer to reader.
        heads_divide: number that the query heads of a layer must divide, where the family's
            configuration class insists on it; 0 where any number loads.
    """

    family: str
    tensors: Mapping[str, TensorSpec]
    groups: tuple[UnitGroup, ...]
    edges: tuple[tuple[int, int], ...] = field(default=())
    heads_divide: int = 0

    def allows(self, counts: Mapping[str, int]) -> bool:
        """Return whether a configuration with these numbers of units per tie would load."""
        if not self.heads_divide:
            return True
        heads = prod(
            counts.get(tie, groups[0].size)
            for tie, groups in self.ties.items()
            if groups[0].kind in ("kv_head", "query_head")
        )
        return self.heads_divide % heads == 0

    def __getitem__(self, name: str) -> UnitGroup:
        """Return the group called `name`."""
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, UnitGroup]:
        return {group.name: group for group in self.groups}

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Unit kinds present, in order of first appearance."""
        return tuple(dict.fromkeys(group.kind for group in self.groups))

    @cached_property
    def ties(self) -> dict[str, tuple[UnitGroup, ...]]:
        """Groups by configuration key."""
        ties: dict[str, list[UnitGroup]] = {}
        for group in self.groups:
            ties.setdefault(group.tie, []).append(group)
        return {tie: tuple(groups) for tie, groups in ties.items()}

    @cached_property
    def slices_of(self) -> dict[str, tuple[tuple[UnitGroup, Slice], ...]]:
        """For every tensor, the groups that own parts of it."""
        owners: dict[str, list[tuple[UnitGroup, Slice]]] = {}
        for group in self.groups:
            for part in group.slices:
                owners.setdefault(part.tensor, []).append((group, part))
        return {tensor: tuple(parts) for tensor, parts in owners.items()}

    def of_kind(self, *kinds: str) -> tuple[UnitGroup, ...]:
        """Return the groups of the given kinds."""
        return tuple(group for group in self.groups if group.kind in kinds)

    def owner_of(self, tensor: str) -> Iterable[tuple[UnitGroup, int]]:
        """Yield (group, unit) for every whole-tensor unit (layer, expert) that owns `tensor`."""
        for group in self._prefixed:
            if tensor.startswith(group.prefix):
                number = tensor[len(group.prefix) :].split(".", 1)[0]
                if number.isdigit():
                    yield group, int(number)

    @cached_property
    def _prefixed(self) -> tuple[UnitGroup, ...]:
        return tuple(group for group in self.groups if group.prefix)
