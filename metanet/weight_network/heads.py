"""Heads of a metanetwork beside the one for weights: a number per unit, decisions, a value.

All of them read the states of nodes (`Metanetwork.node_states`) and are initialised to output zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prunepolicy.metanet.group_network.graph import DECISIONS, STRENGTHS
from prunepolicy.metanet.weight_network.blueprint import Blueprint
from prunepolicy.metanet.weight_network.coders import decoder
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.units import UnitGroup

VALUE = "(value)"
"""The name of a network's value among numbers that have the names of groups."""


class UnitHead(nn.Module):
    """A number per unit, of which `proposals` makes a gate or a score."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.decoder = decoder(hidden, 1)

    def forward(self, network: Blueprint, groups: Sequence[UnitGroup], states: Tensor) -> dict[str, Tensor]:
        """Return numbers per group, shape (units,)."""
        return {g.name: self.decoder(unit_states(network, g, states)).squeeze(1) for g in groups}


class DecisionHead(nn.Module):
    """A ratio per group, as `GraphNetwork` has it, and the value of a network."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.ratio, self.value = decoder(hidden, 1), decoder(hidden, 1)

    def forward(self, network: Blueprint, groups: Sequence[UnitGroup], states: Tensor) -> dict[str, Tensor]:
        """Return a group's ratio for each of its units, shape (units,), and as `VALUE` one number."""
        found = {VALUE: self.value(states.mean(0)).squeeze()}
        for group in groups:
            ratio = torch.tanh(self.ratio(unit_states(network, group, states).mean(0)))
            found[group.name] = STRENGTHS[DECISIONS.index("ratio")] * ratio.expand(group.size)
        return found


def with_channels(network: Blueprint) -> tuple[UnitGroup, ...]:
    """Return the groups whose units write nodes of their own, as whole layers and experts don't."""
    return tuple(group for group in network.units.groups if _written(network, group))


def unit_states(network: Blueprint, group: UnitGroup, states: Tensor) -> Tensor:
    """Return the mean state of the nodes that each unit's weights write, shape (units, hidden).

    Raises:
        UnsupportedModelError: when the group's units write no node, as whole layers do.
    """
    nodes = _written(network, group)
    if not nodes:
        raise UnsupportedModelError(f"{group.name} has no channels of its own, so no head reads it.")
    found = torch.cat([place.transpose(0, 1).flatten(1) for place in nodes], dim=1)
    return states[found.to(states.device)].mean(1)


def _written(network: Blueprint, group: UnitGroup) -> list[Tensor]:
    """Return, per weight that writes the group's units, their nodes, shape (blocks, units, width)."""
    units = torch.arange(group.size).numpy()
    targets = {block.tensor: block.targets.flatten() for block in network.graph.weight_blocks}
    writers = {network.names.get(tensor, tensor): nodes for tensor, nodes in targets.items()}
    return [
        writers[part.tensor][torch.from_numpy(part.indices(units))]
        for part in group.slices
        if not part.consumer and part.tensor in writers
    ]
