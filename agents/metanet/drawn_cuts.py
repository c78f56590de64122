"""REINFORCE with Gaussian decisions and a leave-one-out baseline, for heads that decide how cuts are made.

A decision is normally distributed around the head's output; its reward is the negative loss of the network so
cut. Sources: Williams, "Simple Statistical Gradient-Following Algorithms" (Gaussian units); Kool et al.,
"Buy 4 REINFORCE Samples, Get a Baseline for Free!" (the baseline).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from prunepolicy.agents.learned_pruning.reinforce import leave_one_out_advantages
from prunepolicy.metanet.weight_network.heads import VALUE
from prunepolicy.metanet.weight_network.proposals import HeadOutput

VALUE_COEF = 0.5
"""Weight of the value head's squared error."""


@dataclass(frozen=True)
class DrawnCuts:
    """Decisions that were sampled around a head's output.

    Attributes:
        decisions: by group, one per sample, shape (samples,).
        std: of the samples.
    """

    decisions: Mapping[str, Tensor]
    std: float

    @classmethod
    def around(cls, output: HeadOutput, count: int, std: float, generator: torch.Generator) -> Self:
        """Sample around a head's output."""
        noise = {name: torch.randn(count, generator=generator) for name in _decided(output)}
        return cls({name: m.detach() + std * noise[name].to(m) for name, m in _decided(output).items()}, std)

    def each(self, output: HeadOutput) -> Iterator[HeadOutput]:
        """Yield every sample in the form of a head's output."""
        for draw in zip(*self.decisions.values(), strict=True):
            yield {n: d.expand_as(output[n]) for n, d in zip(self.decisions, draw, strict=True)}

    def loss(self, rewards: Tensor, output: HeadOutput) -> Tensor:
        """Return the policy-gradient loss and the value head's squared error.

        Args:
            rewards: shape (samples,).
        """
        distances = [(self.decisions[name] - mean) / self.std for name, mean in _decided(output).items()]
        # Gaussian log-probs but for a constant: `std` isn't learned, so the normaliser has no gradient.
        log_probs = -torch.stack(distances).square().sum(0) / 2
        value = output[VALUE]
        policy = -(advantages(rewards, value.detach()) * log_probs).mean()
        return policy + VALUE_COEF * (value - rewards).square().mean()


def advantages(rewards: Tensor, value: Tensor) -> Tensor:
    """Return leave-one-out advantages, or of a single sample the reward less the value."""
    return leave_one_out_advantages(rewards) if len(rewards) > 1 else rewards - value


def _decided(output: HeadOutput) -> dict[str, Tensor]:
    """Return every group's decision, which the head repeats for each unit."""
    return {name: numbers[0] for name, numbers in output.items() if name != VALUE}
