"""AutoThink's length-aware stage: among the answers to one prompt, the right ones should be short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field, PrivateAttr

from prunepolicy.envs.thinking.groups import group_mean, group_size, group_std
from prunepolicy.envs.thinking.rollouts import Mode, Rewards, Rollouts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms

SMALLEST_STD = 1e-6


@terms.register
class LengthAware(OutcomeTerm):
    """Adds exp(-a y) - 1 to correct and 1 - exp(-b y) to wrong rollouts.

    y standardises the length among the correct, respectively wrong, rollouts of the same prompt, all
    modes together, with unbiased deviation; where there is one alone nothing is added. So shorter right
    and longer wrong answers gain. Source: AutoThink's code, stage 3, in the form of GRPO-LEAD
    (arXiv 2504.09696).

    Attributes:
        correct: a.
        wrong: b.
        solved: least accuracy of a prompt's answers at which their lengths count. Published: 0; above it
            nobody is paid for leaving out what right answers need.
        floor: accuracy that both modes must have, each over its rollouts of the batches before, as a
            running mean, for any length to count. Published: 0; above it shortness waits until what it
            cost has been learned again, and luck with a prompt can't pass for knowing it.
        decay: of the running means.
    """

    correct: float = Field(default=0.05, ge=0, le=1)
    wrong: float = Field(default=0.05, ge=0, le=1)
    solved: float = Field(default=0.0, ge=0, le=1)
    floor: float = Field(default=0.0, ge=0, le=1)
    decay: float = Field(default=0.9, ge=0, lt=1)
    _accuracy: dict[str, float] = PrivateAttr(default_factory=dict)

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return what every rollout gains or loses."""
        if min(self._accuracy.values(), default=0.0) < self.floor:
            return np.zeros(len(rollouts))
        # Prompts times outcomes as one index: lengths are compared among answers to one prompt that are alike
        # right or wrong, never across them.
        parts = 2 * rollouts.group + rollouts.correct
        lengths = rollouts.length
        spread = np.maximum(group_std(lengths, parts), SMALLEST_STD)
        y = (lengths - group_mean(lengths, parts)) / spread
        paid = np.where(rollouts.correct, np.exp(-self.correct * y) - 1, 1 - np.exp(-self.wrong * y))
        counts = (group_size(parts) > 1) & (
            group_mean(rollouts.correct.astype(np.float64), rollouts.group) >= self.solved
        )
        return np.where(counts, paid, 0.0)

    def observe(self, rollouts: Rollouts) -> None:
        """Move the running accuracy of every mode that the batch has."""
        for mode in (Mode.ANSWER, Mode.THINK):
            correct = rollouts.correct[rollouts.mode == mode]
            if correct.size:
                now = float(correct.mean())
                before = self._accuracy.get(mode.name, now)
                self._accuracy[mode.name] = self.decay * before + (1 - self.decay) * now

    def state(self) -> dict[str, Any]:
        """Return the running accuracies."""
        return {"accuracy": dict(self._accuracy)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._accuracy.clear()
        self._accuracy.update(state["accuracy"])
