"""Experts: what the number of experts in a configuration counts, stored one by one or stacked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.derived.described import Described, NoGroupsError
from prunepolicy.pruning.adapters.derived.movement import Axis
from prunepolicy.pruning.adapters.derived.network import network
from prunepolicy.pruning.adapters.derived.offer import Offer
from prunepolicy.pruning.adapters.derived.paths import joined, number, restated
from prunepolicy.pruning.adapters.derived.settings_by_name import CHOSEN_GROUPS, GROUPS, TOP_K
from prunepolicy.pruning.adapters.expert_gates import can_be_gated
from prunepolicy.pruning.units import Gate, Slice, UnitGroup


def expert_groups(offer: Offer, found: Described) -> Iterator[UnitGroup]:
    """Yield the group of the experts of every layer, which own their tensors and entries of the router.

    Raises:
        NoGroupsError: when there are none, or they can't be gated.
    """
    count = number(found.config, offer.tie) or 1
    axes, prefixes = _owned(offer.tie, count, found)
    floor, multiple = fewest_experts(found.config, found.part)
    for layer, inside in axes.items():
        router, experts = _running(inside, found)
        yield UnitGroup(
            f"layers.{layer}.experts",
            "expert",
            count,
            offer.tie,
            tuple(Slice(*axis) for axis in inside),
            prefix=prefixes.get(layer, ""),
            gate=Gate(router, "router", also=(experts,)),
            layer=layer,
            floor=floor,
            multiple_of=multiple,
        )


def fewest_experts(config: Config, part: str) -> tuple[int, int]:
    """Return the fewest experts that a router can choose from, and what their number is a multiple of.

    Routers that choose among groups of experts first compare the best two of each, and then choose in
    the best groups.

    Raises:
        NoGroupsError: when the configuration doesn't say how many experts a token visits.
    """
    visited, groups, chosen = (
        next((n for key in keys if (n := number(config, joined(part, key)))), 0)
        for keys in (TOP_K, GROUPS, CHOSEN_GROUPS)
    )
    if not visited:
        raise NoGroupsError("its configuration doesn't say how many experts a token visits")
    if groups < 2:
        return visited, 1
    return groups * max(2, -(-visited // max(chosen, 1))), groups


def _owned(path: str, count: int, found: Described) -> tuple[dict[int, list[Axis]], dict[int, str]]:
    """Return, by layer, the axes that have an entry per expert, and what precedes an expert's number.

    Raises:
        NoGroupsError: when other tensors differ in a network of twice as many experts.
    """
    before, after = found.network, network(restated(found.config, {path: 2 * count}), found.auto_class)
    axes: dict[int, list[Axis]] = defaultdict(list)
    for name, shape in before.stored.items():
        for axis, lengths in enumerate(zip(shape, after.stored.get(name, ()), strict=True)):
            if lengths[0] != lengths[1]:
                if lengths != (count, 2 * count):
                    raise NoGroupsError("tensors don't grow in proportion to the number of experts")
                axes[_layer(name, found)].append((name, axis))
    prefixes = {}
    for name in after.stored.keys() - before.stored.keys():
        *outer, last = _numbered(name)
        if not outer or int(last[1]) < count:
            raise NoGroupsError(f"with more experts, there is {name}, too")
        prefixes[_layer(name, found)] = last[0]
    if not axes:
        raise NoGroupsError("no tensor has an entry per expert")
    return axes, prefixes


def _numbered(name: str) -> list[tuple[str, str]]:
    """Return the numbers in a tensor's name, each with what precedes it."""
    parts = name.split(".")
    return [
        ("".join(f"{part}." for part in parts[:n]), part) for n, part in enumerate(parts) if part.isdigit()
    ]


def _layer(name: str, found: Described) -> int:
    layer = found.layer_of(name)
    if layer is None:
        raise NoGroupsError(f"{name} lies in no layer")
    return layer


def _running(axes: list[Axis], found: Described) -> tuple[str, str]:
    """Return the running modules of one layer's router and experts.

    Raises:
        NoGroupsError: when they run in another form than gates reach.
    """
    modules = {found.network.running[name].rpartition(".")[0]: axis for name, axis in axes}
    model = found.network.model
    blocks = {module.rpartition(".")[0] for module, axis in modules.items() if axis == 0}
    gated = {
        f"{block}.{name}"
        for block in blocks
        for name, module in model.get_submodule(block).named_children()
        if can_be_gated(module)
    }
    routers = [
        module
        for module in modules
        if module not in gated and getattr(model.get_submodule(module), "weight", None) is not None
    ]
    if len(gated) != 1 or len(routers) != 1:
        raise NoGroupsError("they run in a form that has no gates here")
    return routers[0], gated.pop()
