"""AutoThink's guard against text that repeats itself."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import Term, terms


@terms.register
class Degeneracy(Term):
    """Sets the reward of degenerate text to `penalty` where it is negative already.

    Source: AutoThink's code; after the naive reward these are wrong answers without thinking.
    """

    penalty: float = -2.0

    def shape(self, rollouts: Rollouts, rewards: Rewards) -> Rewards:
        """Return the rewards, those of degenerate failures replaced."""
        return np.where(rollouts.degenerate & (rewards < 0), np.minimum(rewards, self.penalty), rewards)
