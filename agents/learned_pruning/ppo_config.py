"""Settings of PPO."""

from __future__ import annotations

from pydantic import Field

from prunepolicy.agents.learned_pruning.audited_cases import Reward
from prunepolicy.pruning.io.config import StrictConfig


class PPOConfig(StrictConfig):
    """Settings of the learner.

    An episode is one plan for one network and one budget, decided in one step.

    Attributes:
        shaping: the reward.
        reward: where the rise of the loss comes from: `surrogate` (predicted, where the network confirms
            it), `measured`, measured after the policy's repair (`recovered`), or `auto`: the surrogate for
            models that confirm it, and the measured rise for the others.
        episodes: per learning step.
        repeats: episodes of a step that share network and budget, so that they can be compared; 1 leaves
            the comparison to the value head.
        epochs: passes over the episodes of a step.
        minibatch: episodes per optimiser step.
        clip: largest change of an action's probability that is rewarded, as a share.
        divergence: from the policy that played, beyond which a step learns no more from its episodes.
        entropy: weight of the entropy.
        std: spread of every decision at the start; decisions lie between -1 and 1.
        emphases: that of emphases, as a share of `std`: what reorders units at random drowns what ratios do.
    """

    shaping: str = "quality"
    reward: Reward = "auto"
    episodes: int = Field(default=32, ge=2)
    repeats: int = Field(default=8, ge=1)
    epochs: int = Field(default=4, ge=1)
    minibatch: int = Field(default=32, ge=2)
    clip: float = Field(default=0.2, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    divergence: float = Field(default=0.1, gt=0)
    entropy: float = Field(default=0.0, ge=0)
    std: float = Field(default=0.15, gt=0)
    emphases: float = Field(default=1.0, gt=0)
