"""How a head's decisions are learned from rewards: cuts are drawn around them, and the better made likelier.

REINFORCE, as graph policies learn it: a decision is normally distributed around what the head says, and its
reward is what the network so cut is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from prunepolicy.agents.learned_pruning.reinforce import above_others
from prunepolicy.metanet.heads import VALUE
from prunepolicy.metanet.proposals import HeadOutput

OF_VALUE = 0.5
"""Weight of the value's squared error."""


@dataclass(frozen=True)
class DrawnCuts:
    """Decisions that were drawn around a head's.

    Attributes:
        decisions: by group, one per draw, shape (draws,).
        std: of what was drawn.
    """

    decisions: Mapping[str, Tensor]
    std: float

    @classmethod
    def around(cls, said: HeadOutput, draws: int, std: float, generator: torch.Generator) -> Self:
        """Draw around what a head said."""
        noise = {name: torch.randn(draws, generator=generator) for name in _decided(said)}
        return cls({name: m.detach() + std * noise[name].to(m) for name, m in _decided(said).items()}, std)

    def each(self, said: HeadOutput) -> Iterator[HeadOutput]:
        """Yield, for every draw, what the head would have said."""
        for draw in zip(*self.decisions.values(), strict=True):
            yield {n: d.expand_as(said[n]) for n, d in zip(self.decisions, draw, strict=True)}

    def loss(self, rewards: Tensor, said: HeadOutput) -> Tensor:
        """Return what falls along the policy gradient, and while the value learns to expect these rewards.

        Args:
            rewards: shape (draws,).
        """
        distances = [(self.decisions[name] - mean) / self.std for name, mean in _decided(said).items()]
        log_probs = -torch.stack(distances).square().sum(0) / 2
        value = said[VALUE]
        policy = -(advantages(rewards, value.detach()) * log_probs).mean()
        return policy + OF_VALUE * (value - rewards).square().mean()


def advantages(rewards: Tensor, value: Tensor) -> Tensor:
    """Return rewards less the mean of the other draws', or less the value where there is one draw."""
    return above_others(rewards) if len(rewards) > 1 else rewards - value


def _decided(said: HeadOutput) -> dict[str, Tensor]:
    """Return every group's decision, which the head repeats for each unit."""
    return {name: numbers[0] for name, numbers in said.items() if name != VALUE}
