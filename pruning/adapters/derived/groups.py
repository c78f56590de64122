"""From what follows a number of the configuration to unit groups: who writes a unit, and who reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.blocks import LAYERS
from prunepolicy.pruning.adapters.derived.movement import Axis, Movement, compared, movement, unnumbered
from prunepolicy.pruning.adapters.derived.network import WRITERS, Network
from prunepolicy.pruning.adapters.derived.offer import Offer
from prunepolicy.pruning.adapters.derived.paths import joined, number
from prunepolicy.pruning.adapters.derived.settings_by_name import HIDDEN
from prunepolicy.pruning.adapters.derived.stack import Stack
from prunepolicy.pruning.adapters.experts import GROUPED_WIDTH
from prunepolicy.pruning.units import Gate, Slice, UnitGroup

QUERY_HEADS = "query_heads_per_kv_head"
"""The tie of query heads within a KV head, which no configuration states."""


class NoGroupsError(Exception):
    """The axes that follow a number form no units; the sentence says why."""


@dataclass(frozen=True)
class Block:
    """One block of a layer whose units an offer counts.

    Attributes:
        reader: the axis of the weight that reads them.
        writers: the other axes that they own.
    """

    reader: Axis
    writers: tuple[Axis, ...]


def groups_of(
    offer: Offer, config: Config, network: Network, auto_class: str, stack: Stack | None
) -> list[UnitGroup]:
    """Return the groups of one kind in a network.

    Raises:
        NoGroupsError: when there are none.
    """
    if offer.kind == "layer":
        return [layers_group(offer, config, stack)]
    find = ffn_groups if offer.kind == "ffn" else head_groups
    return list(find(offer, config, network, auto_class, stack))


def layers_group(offer: Offer, config: Config, stack: Stack | None) -> UnitGroup:
    """Return the group of the layers themselves."""
    if stack is None or stack.key != offer.tie:
        raise NoGroupsError("the layers are no single stack that the configuration counts")
    gate = Gate(stack.running.rstrip("."), "residual")
    return UnitGroup(LAYERS, "layer", stack.depth, offer.tie, prefix=stack.prefix, gate=gate)


def ffn_groups(
    offer: Offer, config: Config, network: Network, auto_class: str, stack: Stack | None
) -> Iterator[UnitGroup]:
    """Yield the groups of feed-forward channels that the number at `offer.tie` counts."""
    moved = movement(config, auto_class, offer.tie)
    if moved is None:
        raise NoGroupsError(f"no axes of tensors follow {offer.tie} in proportion")
    found = blocks(network, moved.axes)
    stacked = any(block.reader[0] not in network.running for block in found)
    for block in found:
        name, _ = block.reader
        slices = [part for axis in block.writers for part in _channels(offer, moved, axis)]
        gate, expert = _gate(network, name, stack)
        yield UnitGroup(
            _name(block, stack, expert, "ffn"),
            "ffn",
            moved.count,
            offer.tie,
            (*slices, _read_channels(offer, moved, block.reader)),
            gate=gate,
            layer=layer_of(name, stack),
            multiple_of=GROUPED_WIDTH if stacked else 1,
        )


def head_groups(
    offer: Offer, config: Config, network: Network, auto_class: str, stack: Stack | None
) -> Iterator[UnitGroup]:
    """Yield the groups of KV heads with their query heads, and of query heads within these."""
    heads = number(config, offer.heads)
    kv_heads = number(config, offer.tie) or heads
    assert heads
    assert kv_heads
    base = explicit_size(offer, config)
    halved = kv_heads % 2 == 0
    fewer = {
        offer.tie: kv_heads // 2 if halved else kv_heads * 2,
        offer.heads: heads // 2 if halved else heads * 2,
    }
    axes = compared(config, auto_class, fewer, base)
    if not axes:
        raise NoGroupsError("no tensor shrinks with the number of heads: their size follows from it")
    if any(before * fewer[offer.tie] != after * kv_heads for before, after in axes.values()):
        raise NoGroupsError("tensors don't shrink in proportion to the number of heads")
    moved = Movement(kv_heads, {axis: before for axis, (before, _) in axes.items()})
    apart = offer.queries and heads > kv_heads
    queries = compared(config, auto_class, {offer.heads: heads * 2}, base) if apart else {}
    for block in blocks(network, moved.axes):
        name, _ = block.reader
        size = moved.axes[block.reader] // heads
        gate, layer = Gate(name_of_module(network, name)), layer_of(name, stack)
        slices = [part for axis in block.writers for part in _heads(offer, moved, axis, heads)]
        reads = Slice(*block.reader, moved.per_unit(block.reader), consumer=True)
        yield UnitGroup(
            _name(block, stack, None, "kv_heads"), "kv_head", kv_heads, offer.tie, (*slices, reads),
            gate=gate, layer=layer, cache=2 * size if auto_class in WRITERS else 0,
        )  # fmt: skip
        if queries:
            own = [axis for axis in (*block.writers, block.reader) if axis in queries]
            yield UnitGroup(
                _name(block, stack, None, "query_heads"),
                "query_head",
                heads // kv_heads,
                joined(offer.tie.rpartition(".")[0], QUERY_HEADS),
                tuple(
                    Slice(
                        *axis,
                        (queries[axis][1] - queries[axis][0]) // heads,
                        blocks=kv_heads,
                        period=_query_period(offer, moved, axis, heads),
                        consumer=axis == block.reader,
                    )
                    for axis in own
                ),
                gate=gate,
                layer=layer,
            )


def explicit_size(offer: Offer, config: Config) -> dict[str, int]:
    """Return the size of a head by its path: as stated, or as follows from the hidden size."""
    if not offer.head_dim:
        return {}
    follows = hidden_size(config, offer.heads) // (number(config, offer.heads) or 1)
    return {offer.head_dim: number(config, offer.head_dim) or follows}


def hidden_size(config: Config, beside: str) -> int:
    """Return the hidden size in the part of a configuration that holds another path; 0 where none is."""
    part = beside.rpartition(".")[0]
    return next((n for key in HIDDEN if (n := number(config, joined(part, key)))), 0)


def blocks(network: Network, axes: Iterable[Axis]) -> list[Block]:
    """Return who writes and who reads the units that own `axes`.

    Raises:
        NoGroupsError: when an axis belongs to no block, or a block reads units that nothing writes.
    """
    readers = [axis for axis in axes if _reads(network, axis)]
    below: dict[str, list[Axis]] = defaultdict(list)
    for axis in axes:
        if not _reads(network, axis):
            for module in _modules_around(axis[0]):
                below[module].append(axis)
    left = {axis for found in below.values() for axis in found}
    found = {}
    for reader in sorted(readers, key=lambda axis: -axis[0].count(".")):
        nearest = ([axis for axis in below[module] if axis in left] for module in _modules_around(reader[0]))
        writers = next((writers for writers in nearest if writers), [])
        if not writers:
            raise NoGroupsError(f"{reader[0]} reads units that nothing writes")
        left -= set(writers)
        found[reader] = Block(reader, tuple(writers))
    if left or not found:
        raise NoGroupsError(f"no weight reads the units of {min(left, default=('any tensor', 0))[0]}")
    return [found[reader] for reader in readers]


def _reads(network: Network, axis: Axis) -> bool:
    """Return whether a weight reads along an axis what others wrote."""
    from transformers.pytorch_utils import Conv1D

    name, along = axis
    module = network.reader(name)
    if isinstance(module, nn.Linear):
        return along == 1
    if isinstance(module, Conv1D):
        return along == 0
    # One expert's matrix, which the running model stacks with those of the others.
    return name not in network.running and len(network.stored[name]) == 2 and along == 1


def _modules_around(name: str) -> Iterator[str]:
    """Yield the modules that hold a tensor, from the inside out, up to its layer or expert."""
    while "." in name:
        name, _, last = name.rpartition(".")
        if last.isdigit():
            return
        yield name


def _channels(offer: Offer, moved: Movement, axis: Axis) -> Iterator[Slice]:
    """Yield what channels own of a tensor that writes them."""
    width = moved.per_unit(axis)
    if layout_of(offer, axis) == "runs":
        yield Slice(*axis, width)
    else:
        yield from (Slice(*axis, offset=part * moved.count) for part in range(width))


def _read_channels(offer: Offer, moved: Movement, axis: Axis) -> Slice:
    """Return what channels own of the tensor that reads them."""
    width = moved.per_unit(axis)
    if layout_of(offer, axis) == "runs" or width == 1:
        return Slice(*axis, width, consumer=True)
    return Slice(*axis, blocks=width, period=moved.count, consumer=True)


def _heads(offer: Offer, moved: Movement, axis: Axis, heads: int) -> Iterator[Slice]:
    """Yield what KV heads own of a tensor that writes them."""
    if layout_of(offer, axis) == "runs":
        yield Slice(*axis, moved.per_unit(axis))
    else:
        size = moved.axes[axis] // (heads + 2 * moved.count)
        yield Slice(*axis, heads // moved.count * size)
        yield Slice(*axis, size, heads * size)
        yield Slice(*axis, size, (heads + moved.count) * size)


def _query_period(offer: Offer, moved: Movement, axis: Axis, heads: int) -> int:
    """Return how far the first query heads of neighbouring KV heads are apart."""
    if layout_of(offer, axis) == "runs":
        return moved.per_unit(axis)
    return heads // moved.count * moved.axes[axis] // (heads + 2 * moved.count)


def layout_of(offer: Offer, axis: Axis) -> str:
    """Return how the entries of an offer's units lie along an axis."""
    return offer.layouts.get(axis_key(axis), "runs")


def axis_key(axis: Axis) -> str:
    """Return what an axis is called in all layers alike."""
    return f"{unnumbered(axis[0])}:{axis[1]}"


def _gate(network: Network, reader: str, stack: Stack | None) -> tuple[Gate, int | None]:
    """Return where the channels that a weight reads can be gated, and which expert's they are.

    Raises:
        NoGroupsError: when they can't.
    """
    if reader in network.running:
        return Gate(name_of_module(network, reader)), None
    layer, numbers = layer_of(reader, stack), [int(part) for part in reader.split(".") if part.isdigit()]
    if stack is None or layer is None:
        raise NoGroupsError(f"the running model has no counterpart of {reader}")
    inside = network.model.get_submodule(f"{stack.running}{layer}")
    found = [name for name, module in inside.named_modules() if _is_stacked_gated(module)]
    if len(found) != 1:
        raise NoGroupsError("the experts run in a form whose channels have no gates here")
    return Gate(f"{stack.running}{layer}.{found[0]}", "fused_experts", numbers[-1]), numbers[-1]


def _is_stacked_gated(module: nn.Module) -> bool:
    """Return whether a module holds gated experts, stacked as (experts, outputs, inputs)."""
    up, down = getattr(module, "gate_up_proj", None), getattr(module, "down_proj", None)
    if not isinstance(up, nn.Parameter) or not isinstance(down, nn.Parameter) or up.dim() != 3:
        return False
    plain = {name for name, _ in module.named_parameters()} == {"gate_up_proj", "down_proj"}
    return (
        plain
        and hasattr(module, "act_fn")
        and up.shape[1] == 2 * down.shape[2]
        and up.shape[2] == down.shape[1]
    )


def name_of_module(network: Network, tensor: str) -> str:
    """Return the running module that holds a tensor of the checkpoint."""
    return network.running[tensor].rpartition(".")[0]


def layer_of(tensor: str, stack: Stack | None) -> int | None:
    """Return the layer that a tensor of the checkpoint lies in; None outside of the stack."""
    if stack is not None:
        number, marker, _ = tensor.removeprefix(stack.prefix).partition(".")
        return int(number) if marker and tensor.startswith(stack.prefix) and number.isdigit() else None
    return next((int(part) for part in tensor.split(".") if part.isdigit()), None)


def _name(block: Block, stack: Stack | None, expert: int | None, what: str) -> str:
    """Return the name of a group: short inside the stack, else by the module that holds the reader."""
    tensor = block.reader[0]
    layer = layer_of(tensor, stack)
    if stack is None or layer is None:
        return f"{tensor.removesuffix('.weight').rpartition('.')[0]}.{what}"
    if expert is not None:
        return f"layers.{layer}.experts.{expert}.{what}"
    return f"layers.{layer}.{what}"
