"""AutoThink's length-aware stage: among the answers to one prompt, the right ones should be short."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from prunepolicy.envs.thinking.groups import group_mean, group_size, group_std
from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms

SMALLEST_STD = 1e-6


class LengthAware(OutcomeTerm):
    """Adds exp(-a y) - 1 to correct and 1 - exp(-b y) to wrong rollouts.

    y standardises the length among the correct, respectively wrong, rollouts of the same prompt, all
    modes together, with unbiased deviation; where there is one alone nothing is added. So shorter right
    and longer wrong answers gain. Source: AutoThink's code, stage 3, in the form of GRPO-LEAD
    (arXiv 2504.09696).

    Attributes:
        correct: a.
        wrong: b.
        solved: least accuracy of a prompt's answers at which their lengths count. Published: 0; above it
            nobody is paid for leaving out what right answers need.
    """

    correct: float = Field(default=0.05, ge=0, le=1)
    wrong: float = Field(default=0.05, ge=0, le=1)
    solved: float = Field(default=0.0, ge=0, le=1)

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return what every rollout gains or loses."""
        parts = 2 * rollouts.group + rollouts.correct
        lengths = rollouts.length
        spread = np.maximum(group_std(lengths, parts), SMALLEST_STD)
        y = (lengths - group_mean(lengths, parts)) / spread
        paid = np.where(rollouts.correct, np.exp(-self.correct * y) - 1, 1 - np.exp(-self.wrong * y))
        counts = (group_size(parts) > 1) & (
            group_mean(rollouts.correct.astype(np.float64), rollouts.group) >= self.solved
        )
        return np.where(counts, paid, 0.0)


terms.add("length_aware", LengthAware)
