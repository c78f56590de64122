"""TruthRL's ternary reward: abstaining has a higher reward than a wrong answer."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class Ternary(OutcomeTerm):
    """Pays 1 when correct, `abstain` for abstaining and -1 when wrong, whatever the length.

    Source: TruthRL (arXiv 2509.25760). Abstaining is right iff the accuracy is below (1 + abstain) / 2.

    Attributes:
        abstain: 0 in the publication.
    """

    abstain: float = 0.0

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        return np.where(rollouts.abstains, self.abstain, np.where(rollouts.correct, 1.0, -1.0))
