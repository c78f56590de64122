"""Fewer tokens, whatever they say."""

from __future__ import annotations

from pydantic import Field

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class Brevity(OutcomeTerm):
    """Charges `weight` for every thousand tokens."""

    weight: float = Field(default=0.1, ge=0)

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the charge of every rollout."""
        return -self.weight * rollouts.length / 1000
