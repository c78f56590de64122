"""The registry of samplers: which prompts a batch is made of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from prunepolicy.pruning.registry import Registry

Prompts = NDArray[np.int64]
"""Indices of prompts."""
Weights = NDArray[np.float64]


class Sampler(BaseModel):
    """Draws prompts; its fields are its settings, and unknown ones are refused.

    Draws depend on the seed, the number of batches so far, and what was observed: a sampler that was
    restored draws what the saved one would have drawn.

    Attributes:
        prompts: how many there are.
        seed: of every draw.
        difficulty: of every prompt, where known; without it, prompts are numbered from easy to hard.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int = Field(ge=1)
    seed: int = 0
    difficulty: tuple[float, ...] = ()
    _batches: int = PrivateAttr(default=0)

    @property
    def reads_diversity(self) -> bool:
        """Whether `observe` needs to know how different answers are; comparing them takes time."""
        return False

    @abstractmethod
    def draw(self, count: int, generator: np.random.Generator) -> Prompts:
        """Return `count` prompts, all randomness from `generator`."""

    def sample(self, count: int) -> Prompts:
        """Return the prompts of the next batch."""
        self._batches += 1
        return self.draw(count, np.random.default_rng((self.seed, self._batches)))

    def observe(self, prompts: Prompts, correct: NDArray[np.bool_], diversity: Weights | None = None) -> None:
        """Learn how rollouts went: one row each, several may belong to a prompt.

        Args:
            diversity: how different the answers to the row's prompt are, from 0 to 1, where known.
        """

    def state(self) -> dict[str, Any]:
        """Return what decides the next draws as JSON can hold it."""
        return {"batches": self._batches}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._batches = state["batches"]


samplers: Registry[type[Sampler]] = Registry("sampler", "prunepolicy.envs.thinking.sampling")
