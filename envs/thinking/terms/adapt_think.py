"""AdaptThink: answering at once earns a bonus, and may not lose against a reference that thinks."""

from __future__ import annotations

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class AdaptThink(OutcomeTerm):
    """Pays correctness, less the reference's accuracy on the prompt, and `bonus` for not thinking.

    To be used without normalisation in groups. Skipping thought is right iff p_answer + bonus > p_think.
    Source: AdaptThink (arXiv 2505.13417).
    """

    bonus: float = 0.05

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        return rollouts.correct - rollouts.reference + self.bonus * rollouts.answers
