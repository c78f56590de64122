"""FFN channels: what a width in a configuration counts."""

from __future__ import annotations

from collections.abc import Iterator

from prunepolicy.pruning.adapters.derived.described import Described, NoGroupsError, UnitBlock
from prunepolicy.pruning.adapters.derived.movement import Axis, Movement, movement
from prunepolicy.pruning.adapters.derived.offer import Offer
from prunepolicy.pruning.adapters.expert_gates import can_be_gated
from prunepolicy.pruning.adapters.experts import GROUPED_WIDTH
from prunepolicy.pruning.units import Gate, Slice, UnitGroup


def channel_groups(offer: Offer, found: Described) -> Iterator[UnitGroup]:
    """Yield the groups of FFN channels that the number at `offer.tie` counts.

    Raises:
        NoGroupsError: when there are none.
    """
    moved = movement(found.config, found.auto_class, offer.tie)
    if moved is None:
        raise NoGroupsError(f"no axes of tensors follow {offer.tie} in proportion")
    blocks = found.blocks(moved.axes)
    gates = [_gate(found, block) for block in blocks]
    stacked = any(gate.how == "fused_experts" for gate in gates)
    for block, gate in zip(blocks, gates, strict=True):
        slices = [part for axis in block.writers for part in _written(offer, moved, axis)]
        expert = f".experts.{gate.expert}" if gate.expert is not None else ""
        yield UnitGroup(
            f"{block.name}{expert}.ffn",
            "ffn",
            moved.count,
            offer.tie,
            (*slices, _read(offer, moved, block.reader)),
            gate=gate,
            layer=block.layer,
            multiple_of=GROUPED_WIDTH if stacked else 1,
        )


def _written(offer: Offer, moved: Movement, axis: Axis) -> Iterator[Slice]:
    """Yield what channels own of a tensor that writes them."""
    width = moved.per_unit(axis)
    if offer.layout_of(axis) == "runs":
        yield Slice(*axis, width)
    else:
        yield from (Slice(*axis, offset=part * moved.count) for part in range(width))


def _read(offer: Offer, moved: Movement, axis: Axis) -> Slice:
    """Return what channels own of the tensor that reads them."""
    width = moved.per_unit(axis)
    if offer.layout_of(axis) == "runs" or width == 1:
        return Slice(*axis, width, consumer=True)
    return Slice(*axis, blocks=width, period=moved.count, consumer=True)


def _gate(found: Described, block: UnitBlock) -> Gate:
    """Return where channels can be gated: before the weight that reads them, or inside stacked experts.

    Raises:
        NoGroupsError: when they can't.
    """
    name, _ = block.reader
    if block.module is not None:
        stacks = can_be_gated(found.network.model.get_submodule(block.module))
        return Gate(block.module, "fused_experts" if stacks else "input")
    if found.stack is None or block.layer is None:
        raise NoGroupsError(f"the running model has no counterpart of {name}")
    layer = f"{found.stack.running}{block.layer}"
    inside = found.network.model.get_submodule(layer).named_modules()
    stacked = [inner for inner, module in inside if can_be_gated(module)]
    if len(stacked) != 1:
        raise NoGroupsError("the experts run in a form whose channels have no gates here")
    expert = [int(part) for part in name.split(".") if part.isdigit()][-1]
    return Gate(f"{layer}.{stacked[0]}", "fused_experts", expert)
