"""The registry of reward terms, which are computed one after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.pruning.registry import Registry


class Term(BaseModel):
    """Changes the rewards of a batch; its fields are its settings, and unknown ones are refused.

    A term with memory changes it in `observe` alone, so that `shape` gives the same for the same state.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def shape(self, rollouts: Rollouts, rewards: Rewards) -> Rewards:
        """Return the rewards after this term, given those before it; `rewards` isn't written to."""

    def observe(self, rollouts: Rollouts) -> None:
        """Remember a batch that was shaped; terms without memory do nothing."""

    def state(self) -> dict[str, Any]:
        """Return the memory as JSON can hold it; it reads back bit by bit."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""


class OutcomeTerm(Term):
    """Adds a reward for a rollout's outcome to the terms before."""

    @abstractmethod
    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""

    def shape(self, rollouts: Rollouts, rewards: Rewards) -> Rewards:
        """Return the rewards with the payment added."""
        return rewards + np.asarray(self.pay(rollouts), dtype=np.float64)


terms: Registry[type[Term]] = Registry("term", "prunepolicy.envs.thinking.terms")
