"""A reward that falls, or rises, along half a cosine of the length."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms

Ends = tuple[float, float]


@terms.register
class Cosine(OutcomeTerm):
    """Pays from the first to the second number of `correct` or `wrong` as length goes from 0 to `longest`.

    So short is good when correct, and long better when wrong. Abstaining pays 0. Source: cosine-scaled
    rewards (arXiv 2502.03373).
    """

    longest: float = Field(default=1000, gt=0)
    correct: Ends = (1.0, 0.5)
    wrong: Ends = (-1.0, -0.5)

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        along = (1 + np.cos(np.pi * np.clip(rollouts.length / self.longest, 0, 1))) / 2
        right, wrong = (end + (start - end) * along for start, end in (self.correct, self.wrong))
        return np.where(rollouts.abstains, 0.0, np.where(rollouts.correct, right, wrong))
