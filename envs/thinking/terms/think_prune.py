"""ThinkPrune: what isn't said within the limit isn't said."""

from __future__ import annotations

from pydantic import Field

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class ThinkPrune(OutcomeTerm):
    """Pays 1 for a correct answer of at most `limit` tokens; stages lower the limit.

    Source: ThinkPrune (arXiv 2504.01296), 4000, 3000, then 2000 tokens.
    """

    limit: float = Field(default=4000, gt=0)

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        return (rollouts.correct & (rollouts.length <= self.limit)).astype(float)
