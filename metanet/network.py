"""The network that reads networks: from a unit graph to scores of units, ratios of groups, and a value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunepolicy.metanet.graph import EDGE_FEATURES, GLOBALS, GROUP_FEATURES, UNIT_FEATURES, NetworkGraph
from prunepolicy.metanet.layers import layers


@dataclass(frozen=True)
class Judgement:
    """What the network says.

    Attributes:
        scores: per unit, higher means keep; comparable within its group.
        ratios: per group, how much more of it should stay than the heuristic would keep.
        value: what the outcome of the episode is expected to be worth.
    """

    scores: Tensor
    ratios: Tensor
    value: Tensor


class GraphNetwork(nn.Module):
    """Reads units, pools them into groups, lets groups talk, and scores units in that light.

    Before it has learned anything it adds nothing: scores and ratios are zero.

    Args:
        hidden: width.
        rounds: of messages between groups.
        layer: name of the message-passing layer.
        bound: scores and ratios lie between -bound and bound.
    """

    def __init__(self, hidden: int, rounds: int, layer: str, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.read_units = _two_layers(len(UNIT_FEATURES), hidden, hidden)
        self.read_groups = _two_layers(2 * hidden + len(GROUP_FEATURES) + len(GLOBALS), hidden, hidden)
        self.rounds = nn.ModuleList(layers[layer](hidden, len(EDGE_FEATURES)) for _ in range(rounds))
        self.score, self.ratio, self.value = (
            _head(2 * hidden, hidden),
            _head(hidden, hidden),
            _head(hidden, hidden),
        )

    def forward(self, network: NetworkGraph) -> Judgement:
        """Judge one network."""
        units = self.read_units(network.units)
        count = len(network.groups)
        known = [_pooled(units, network.owner, count), network.groups, network.globals.expand(count, -1)]
        groups = self.read_groups(torch.cat(known, dim=1))
        for layer in self.rounds:
            groups = layer(groups, network.edges, network.edge_features)
        scores = self.score(torch.cat([units, groups[network.owner]], dim=1)).squeeze(1)
        ratios = self.ratio(groups).squeeze(1)
        value = self.value(groups.mean(0)).squeeze(0)
        return Judgement(self._bounded(scores), self._bounded(ratios), value)

    def _bounded(self, values: Tensor) -> Tensor:
        return self.bound * torch.tanh(values / self.bound)


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def _head(inputs: int, hidden: int) -> nn.Sequential:
    """Return two layers that say zero until they have learned something."""
    last = nn.Linear(hidden, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), last)


def _pooled(units: Tensor, owner: Tensor, groups: int) -> Tensor:
    """Return mean and maximum of the units of every group, side by side."""
    places = owner[:, None].expand_as(units)
    empty = units.new_zeros(groups, units.shape[1])
    mean = empty.scatter_reduce(0, places, units, "mean", include_self=False)
    largest = empty.scatter_reduce(0, places, units, "amax", include_self=False)
    return torch.cat([mean, largest], dim=1)
