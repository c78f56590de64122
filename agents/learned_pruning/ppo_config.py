"""Settings of PPO."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from prunepolicy.agents.learned_pruning.audited_cases import Reward
from prunepolicy.pruning.io.config import OldNames, Renamed, StrictConfig


class PPOConfig(StrictConfig):
    """Settings of Stable-Baselines3's PPO, under that library's names, and of what it plays.

    An episode is one plan for one network and one budget, decided in one step.

    Attributes:
        shaping: the reward.
        reward: where the rise of the loss comes from: `surrogate` (predicted, where the network confirms
            it), `measured`, measured after the policy's repair (`recovered`), or `auto`: the surrogate for
            models that confirm it, and the measured rise for the others.
        episodes_per_step: episodes of one rollout; every training step plays one.
        episodes_per_context: episodes of a rollout with the same network and budget, whose mean reward is
            their baseline; 1 leaves that to the value head.
        n_epochs: passes over the episodes of a rollout.
        batch_size: episodes per optimiser step.
        clip_range: of the ratio of probabilities around 1.
        target_kl: stop the passes over a rollout once the approximate KL divergence from the policy that
            played it exceeds 1.5 times this.
        ent_coef: weight of the entropy bonus.
        std: initial standard deviation of the actions, which lie between -1 and 1.
        emphasis_std_scale: initial standard deviation of the emphasis actions relative to `std`; high values
            add ranking noise that hides the ratios' effect.
    """

    renamed: ClassVar[OldNames] = {
        "episodes": "episodes_per_step",
        "repeats": "episodes_per_context",
        "minibatch": "batch_size",
        "epochs": "n_epochs",
        "clip": "clip_range",
        "divergence": Renamed("target_kl", 1.5),
        "entropy": "ent_coef",
        "emphases": "emphasis_std_scale",
    }
    shaping: str = "quality"
    reward: Reward = "auto"
    episodes_per_step: int = Field(default=32, ge=2)
    episodes_per_context: int = Field(default=8, ge=1)
    n_epochs: int = Field(default=4, ge=1)
    batch_size: int = Field(default=32, ge=2)
    clip_range: float = Field(default=0.2, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    target_kl: float = Field(default=0.1 / 1.5, gt=0)
    ent_coef: float = Field(default=0.0, ge=0)
    std: float = Field(default=0.15, gt=0)
    emphasis_std_scale: float = Field(default=1.0, gt=0)
