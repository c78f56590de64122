"""AutoThink's batch balance: the mode with too large a share of a batch is penalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import Term, terms


@terms.register
class Balance(Term):
    """Pulls rewards towards a penalty: r becomes (1 - d) r + d target, d a number per mode.

    With z the share of thinking in the batch, d = clip(strength * (z - gamma), 0, 1) for thinking. For
    answering at once it is clip(strength * ((1 - z) - gamma), 0, 1) in the published reading, where gamma
    caps the share of either mode, and clip(strength * (gamma - z), 0, 1) where gamma is the target of z.
    Targets are 0 and -1 for thinking (correct, wrong), 1 and -2 for answering; after the naive reward
    this subtracts d. Source: AutoThink's code, stage 1 (arXiv 2505.10832).

    Attributes:
        gamma: cap or target.
        strength: how fast the penalty grows.
        reading: what gamma means.
        share: z of this batch, or a running mean over the batches before it, for batches of few rollouts.
        decay: of the running mean, which starts where nothing is penalised.
    """

    gamma: float = Field(default=0.5, ge=0, le=1)
    strength: float = Field(default=2.0, ge=0)
    reading: Literal["cap", "target"] = "cap"
    share: Literal["batch", "running"] = "batch"
    decay: float = Field(default=0.99, ge=0, lt=1)
    _running: float | None = PrivateAttr(default=None)

    def shape(self, rollouts: Rollouts, rewards: Rewards) -> Rewards:
        """Return the rewards, pulled towards the targets; abstaining isn't touched."""
        thinking, answering = self.penalties(*self._shares(rollouts))
        pull = np.select([rollouts.thinks, rollouts.answers], [thinking, answering], 0.0)
        thought = np.where(rollouts.correct, 0.0, -1.0)
        answered = np.where(rollouts.correct, 1.0, -2.0)
        # Interpolated, not subtracted: at full strength the rewards of both modes are the targets, so that a
        # collapsed policy sees a reward that prefers the other mode whatever the answers are.
        return np.asarray((1 - pull) * rewards + pull * np.where(rollouts.thinks, thought, answered))

    def penalties(self, thinking: float, answering: float) -> tuple[float, float]:
        """Return d of thinking and of answering at once, given the shares of both."""
        beyond = self.gamma - thinking if self.reading == "target" else answering - self.gamma
        return _clipped(self.strength * (thinking - self.gamma)), _clipped(self.strength * beyond)

    def observe(self, rollouts: Rollouts) -> None:
        """Move the running mean."""
        now = float(rollouts.thinks.mean())
        self._running = self.decay * self._mean + (1 - self.decay) * now

    def state(self) -> dict[str, Any]:
        """Return the running mean."""
        return {"running": self._running}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._running = state["running"]

    @property
    def _mean(self) -> float:
        neutral = self.gamma if self.reading == "target" else 0.5
        return neutral if self._running is None else self._running

    def _shares(self, rollouts: Rollouts) -> tuple[float, float]:
        if self.share == "running":
            return self._mean, 1 - self._mean
        return float(rollouts.thinks.mean()), float(rollouts.answers.mean())


def _clipped(value: float) -> float:
    return min(1.0, max(0.0, value))
