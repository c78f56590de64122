"""AutoThink's naive reward: a correct answer without thinking has the highest reward."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class Naive(OutcomeTerm):
    """Thinking pays 1 when correct and 0 when wrong, answering at once 2 and -1; the unreadable pays 0.

    Source: AutoThink (arXiv 2505.10832). Skipping thought is right iff p_answer > (1 + p_think) / 3.
    """

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout; abstaining pays 0."""
        thought = np.where(rollouts.correct, 1.0, 0.0)
        answered = np.where(rollouts.correct, 2.0, -1.0)
        paid = np.select([rollouts.thinks, rollouts.answers], [thought, answered], 0.0)
        return np.where(rollouts.well_formed, paid, 0.0)
