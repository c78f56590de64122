"""Make whole groups of weights small while a network learns, so that cutting them hurts less.

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", sparse training: every channel is shrunk at
a rate between 1 and 16, the faster, the weaker its group norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.statistics.stats import is_weight, per_unit
from prunepolicy.pruning.units import Slice, UnitGraph, UnitGroup

STEEPEST = 16.0
SMALLEST = 1e-12


class Penalty(Protocol):
    """Adds to gradients between the loss's backward pass and the step."""

    def add(self, model: nn.Module, step: int) -> None:
        """Add to the gradients of `model`, in the so-manieth step of an epoch."""


@dataclass
class GroupPenalty:
    """Adds `strength * rate * weight` to the gradient of every weight of a removable unit.

    Attributes:
        strength: against the mean loss.
        names: by the running model's names of tensors, those that units have, where they differ.
        every: steps after which rates are computed anew.
    """

    graph: UnitGraph
    strength: float
    names: Mapping[str, str] = field(default_factory=dict)
    every: int = 10
    rates: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: Checkpoint, strength: float) -> Self:
        """Make the penalty for a network as its files have it."""
        return cls(checkpoint.graph, strength, checkpoint.stored_names)

    def add(self, model: nn.Module, step: int) -> None:
        """Add the penalty's gradient to the gradients of `model`."""
        parameters = {self.names.get(name, name): weight for name, weight in model.named_parameters()}
        if step % self.every == 0 or not self.rates:
            self.rates = shrink_rates(self.graph, parameters)
        for name, rate in self.rates.items():
            weight = parameters[name]
            if weight.grad is not None:
                weight.grad.addcmul_(rate, weight.detach(), value=self.strength)


def shrink_rates(graph: UnitGraph, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return, for every weight that holds parts of units, the rate at which each entry shrinks."""
    rates: dict[str, Tensor] = {}
    with torch.no_grad():
        for group in filter(weights_of, graph.groups):
            norms = group_squares(group, parameters).sqrt()
            span = (norms.max() - norms.min()).clamp(min=SMALLEST)
            rate = STEEPEST ** ((norms.max() - norms) / span)
            for part in weights_of(group):
                entries = _spread(group, part, rate, parameters[part.tensor])
                rates[part.tensor] = rates.get(part.tensor, 0) + entries
    return rates


def group_squares(group: UnitGroup, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return, per unit, the squared norm in one weight of the group, the mean over its weights."""
    parts = weights_of(group)
    return torch.stack([per_unit(parameters[p.tensor].square(), group, p, "sum") for p in parts]).mean(0)


def weights_of(group: UnitGroup) -> list[Slice]:
    """Return the parts of a group that lie in weights."""
    return [part for part in group.slices if is_weight(part.tensor)]


def _spread(group: UnitGroup, part: Slice, rate: Tensor, weight: Tensor) -> Tensor:
    """Return rates of units as rates of a weight's entries, of a shape that broadcasts against it."""
    along = rate.new_zeros(weight.shape[part.axis])
    indices = torch.from_numpy(part.indices(torch.arange(group.size).numpy())).to(weight.device)
    along[indices] = rate[None, :, None].expand(indices.shape)
    return along.view([-1 if axis == part.axis else 1 for axis in range(weight.dim())])
