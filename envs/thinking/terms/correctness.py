"""Right or wrong, whatever it cost."""

from __future__ import annotations

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class Correctness(OutcomeTerm):
    """Pays 1 for a correct answer."""

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        return rollouts.correct.astype(float)
