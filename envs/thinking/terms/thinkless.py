"""Thinkless: a correct short answer has twice the reward of a long one."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class Thinkless(OutcomeTerm):
    """Pays 1 for a correct answer at once, 0.5 for a correct one after thinking, -1 for a wrong one.

    Abstaining pays 0. Skipping thought is right iff p_answer > 0.75 p_think.
    Source: Thinkless (arXiv 2505.13379).
    """

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        paid = np.where(rollouts.correct, np.where(rollouts.thinks, 0.5, 1.0), -1.0)
        return np.where(rollouts.abstains, 0.0, paid)
