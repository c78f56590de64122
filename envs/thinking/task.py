"""The decision itself: prompts are met in one of several ways, and the batch is paid for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunepolicy.envs.thinking.rollouts import Mask, Rewards, Rollouts
from prunepolicy.envs.thinking.schedule import NAIVE, Schedule, ShapedBatch, Stage
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import Array, ModeAndBudget, Prompts, PromptSource, choices

FARTHEST = 10.0
"""Features are clipped to this when they are observed."""
DECAY = 0.9
"""Of the running share of thinking."""
REMEMBERED = 64
"""Batches that pictures look back on."""


@dataclass(frozen=True)
class Batch:
    """What a picture shows of a batch: difficulty, thinking or not, and reward of every rollout."""

    difficulty: Array
    thinks: Mask
    rewards: Rewards

    @classmethod
    def empty(cls) -> Self:
        """Return a batch without rollouts."""
        return cls(np.zeros(0), np.zeros(0, np.bool_), np.zeros(0))


class ThinkTask:
    """Prompts, ways to meet them, and rewards in stages.

    Args:
        source: where outcomes come from; a simulated model when None.
        actions: `answer`, `think`, `abstain`, or tokens of thought.
        stages: what is paid; AutoThink's naive reward when None.
    """

    def __init__(
        self,
        source: PromptSource | None = None,
        actions: Sequence[str | float] = ("answer", "think"),
        stages: Sequence[Stage | Mapping[str, Any]] | None = None,
    ) -> None:
        self.source = source or SimulatedSource()
        self.choices = choices(actions)
        self._stages = tuple(stages or (NAIVE,))
        self._seen = np.clip(self.source.features, -FARTHEST, FARTHEST).astype(np.float32)
        self.start()

    @property
    def features(self) -> int:
        """How many numbers are observed: those of the prompt, and the running share of thinking."""
        return int(self._seen.shape[1]) + 1

    def start(self) -> None:
        """Begin with the first stage, and nothing remembered."""
        self.schedule, self.share = Schedule(self._stages), 0.5
        self.past: deque[Batch] = deque(maxlen=REMEMBERED)

    def observe(self, prompts: Prompts) -> NDArray[np.float32]:
        """Return what is seen of prompts before deciding, (prompts, features)."""
        share = np.full((len(prompts), 1), self.share, np.float32)
        return np.concatenate([self._seen[prompts], share], axis=1)

    def meet(
        self,
        prompts: Prompts,
        groups: NDArray[np.int64],
        actions: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> tuple[Rollouts, ShapedBatch]:
        """Return what comes of a batch, and its rewards; rows of equal `groups` are compared."""
        rollouts = self.source.rollouts(prompts, ModeAndBudget.by(self.choices, actions), generator)
        rollouts = replace(rollouts, group=groups)
        return rollouts, self.pay(prompts, rollouts)

    def pay(self, prompts: Prompts, rollouts: Rollouts) -> ShapedBatch:
        """Return the rewards of a batch, one prompt per rollout, and remember how often was thought."""
        shaped = self.schedule.step(rollouts)
        self.share = DECAY * self.share + (1 - DECAY) * shaped.statistics["think"]
        self.past.append(Batch(self.source.difficulty[prompts], rollouts.thinks, shaped.rewards))
        return shaped

    def state(self) -> dict[str, Any]:
        """Return stage, memories and share as JSON can hold them."""
        return {"schedule": self.schedule.state(), "share": self.share}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.schedule.restore(state["schedule"])
        self.share = state["share"]
