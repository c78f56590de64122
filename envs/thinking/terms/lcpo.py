"""L1's length-controlled rewards: as many tokens as were asked for, or at most so many."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class Lcpo(OutcomeTerm):
    """Pays correctness with regard to the tokens that the prompt asked for (the column `budget`).

    `exact` pays correct - weight * |budget - length|; `max` pays clip(weight * (budget - length) + 0.5,
    0, 1) when correct. Without a budget it is correctness alone. Source: L1 (arXiv 2503.04697).
    """

    form: Literal["exact", "max"] = "exact"
    weight: float = Field(default=3e-4, ge=0)

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        asked = np.isfinite(rollouts.budget)
        left = np.where(asked, rollouts.budget, rollouts.length) - rollouts.length
        if self.form == "exact":
            return rollouts.correct - self.weight * np.abs(left)
        worth = np.where(asked, np.clip(self.weight * left + 0.5, 0, 1), 1.0)
        return np.where(rollouts.correct, worth, 0.0)
