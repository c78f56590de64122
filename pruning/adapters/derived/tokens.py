"""Tokens: what the size of a vocabulary counts."""

from __future__ import annotations

from prunepolicy.pruning.adapters.derived.described import Described, NoGroupsError
from prunepolicy.pruning.adapters.derived.movement import compared
from prunepolicy.pruning.adapters.derived.offer import Offer
from prunepolicy.pruning.adapters.derived.paths import number
from prunepolicy.pruning.adapters.transformer import BYTES
from prunepolicy.pruning.units import VOCABULARY, Slice, UnitGroup


def token_group(offer: Offer, found: Described) -> UnitGroup:
    """Return the group of the tokens, which own a row of everything that has one per token.

    Raises:
        NoGroupsError: when the network has no such embedding.
    """
    size = number(found.config, offer.tie) or 0
    axes = compared(found.config, found.auto_class, {offer.tie: 2 * size})
    if (found.network.embedding, 0) not in axes:
        raise NoGroupsError("the embedding has no row for each")
    if any(lengths != (size, 2 * size) for lengths in axes.values()):
        raise NoGroupsError("other tensors follow their number, but not one by one")
    slices = tuple(Slice(*axis) for axis in axes)
    return UnitGroup(VOCABULARY, VOCABULARY, size, offer.tie, slices, floor=min(BYTES, size // 4))
