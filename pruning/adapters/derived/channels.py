"""FFN channels: what a width in a configuration counts."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from prunepolicy.pruning.adapters.derived.described import Described, NoGroupsError, UnitBlock
from prunepolicy.pruning.adapters.derived.movement import Axis, Movement, movement
from prunepolicy.pruning.adapters.derived.offer import Offer
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
    stacked = any(block.module is None for block in blocks)
    for block in blocks:
        slices = [part for axis in block.writers for part in _written(offer, moved, axis)]
        gate = Gate(block.module) if block.module else _experts_gate(found, block)
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


def _experts_gate(found: Described, block: UnitBlock) -> Gate:
    """Return where the channels of one expert can be gated, which runs stacked with the others.

    Raises:
        NoGroupsError: when they can't.
    """
    name, _ = block.reader
    if found.stack is None or block.layer is None:
        raise NoGroupsError(f"the running model has no counterpart of {name}")
    layer = f"{found.stack.running}{block.layer}"
    inside = found.network.model.get_submodule(layer).named_modules()
    stacked = [inner for inner, module in inside if _is_stacked_and_gated(module)]
    if len(stacked) != 1:
        raise NoGroupsError("the experts run in a form whose channels have no gates here")
    expert = [int(part) for part in name.split(".") if part.isdigit()][-1]
    return Gate(f"{layer}.{stacked[0]}", "fused_experts", expert)


def _is_stacked_and_gated(module: nn.Module) -> bool:
    """Return whether a module holds gated experts, stacked as (experts, outputs, inputs)."""
    held = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    if held.keys() != {"gate_up_proj", "down_proj"} or not hasattr(module, "act_fn"):
        return False
    up, down = held["gate_up_proj"], held["down_proj"]
    return len(up) == len(down) == 3 and up[1:] == (2 * down[2], down[1])
