"""ShorterBetter: the shortest right answer to a prompt says how long the others should be."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from prunepolicy.envs.thinking.groups import group_mean, group_min
from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class ShorterBetter(OutcomeTerm):
    """Pays `right` when correct, less `weight` for every token away from the group's best length.

    That is the length of the shortest correct answer to the prompt, or the mean of all where none is.
    Source: ShorterBetter (arXiv 2504.21370).
    """

    right: float = 2.0
    weight: float = Field(default=1e-3, ge=0)

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        lengths, groups = rollouts.length, rollouts.group
        shortest = group_min(np.where(rollouts.correct, lengths, np.inf), groups)
        best = np.where(np.isfinite(shortest), shortest, group_mean(lengths, groups))
        return self.right * rollouts.correct - self.weight * np.abs(lengths - best)
