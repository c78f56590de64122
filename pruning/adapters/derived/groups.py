"""The unit groups of everything that a configuration offers."""

from __future__ import annotations

from prunepolicy.pruning.adapters.blocks import LAYERS, period_of
from prunepolicy.pruning.adapters.derived.channels import channel_groups
from prunepolicy.pruning.adapters.derived.described import Described, NoGroupsError
from prunepolicy.pruning.adapters.derived.experts import expert_groups
from prunepolicy.pruning.adapters.derived.heads import head_groups
from prunepolicy.pruning.adapters.derived.layers import per_layer
from prunepolicy.pruning.adapters.derived.offer import Offer
from prunepolicy.pruning.adapters.derived.tokens import token_group
from prunepolicy.pruning.units import Gate, UnitGroup


def groups_of(offer: Offer, found: Described) -> list[UnitGroup]:
    """Return the groups of one kind in a network.

    Raises:
        NoGroupsError: when there are none.
    """
    if offer.kind == "ffn":
        return list(channel_groups(offer, found))
    if offer.kind == "kv_head":
        return list(head_groups(offer, found))
    if offer.kind == "expert":
        return list(expert_groups(offer, found))
    if offer.kind == "vocabulary":
        return [token_group(offer, found)]
    stack = found.stack
    if stack is None or stack.key != offer.tie:
        raise NoGroupsError("the layers are no single stack that the configuration counts")
    gate = Gate(stack.running.rstrip("."), "residual")
    period = period_of(*per_layer(found.config, found.part, stack.depth))
    return [UnitGroup(LAYERS, "layer", stack.depth, offer.tie, prefix=stack.prefix, gate=gate, period=period)]
