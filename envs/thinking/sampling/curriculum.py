"""Easy prompts first; harder ones once these succeed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from prunepolicy.envs.thinking.sampling.registry import Prompts, Sampler, Weights, samplers


@samplers.register
class Curriculum(Sampler):
    """Draws uniformly from the easiest share of the prompts, by `difficulty`, which grows with success.

    Attributes:
        opened: share open at the start.
        step: what is opened at once.
        above: running accuracy from which on more is opened.
        memory: of the running accuracy, which starts anew whenever something is opened.
    """

    opened: float = Field(default=0.25, gt=0, le=1)
    step: float = Field(default=0.05, gt=0, le=1)
    above: float = Field(default=0.7, ge=0, le=1)
    memory: float = Field(default=0.8, ge=0, lt=1)
    _open: float = PrivateAttr()
    _accuracy: float = PrivateAttr(default=0.0)

    def model_post_init(self, context: Any) -> None:
        """Start with what is open at first."""
        super().model_post_init(context)
        self._open = self.opened

    def draw(self, count: int, generator: np.random.Generator) -> Prompts:
        """Return `count` of the prompts that are open."""
        order = np.argsort(self.difficulty, kind="stable") if self.difficulty else np.arange(self.prompts)
        many = max(1, round(self._open * self.prompts))
        return np.asarray(order[generator.integers(many, size=count)])

    def observe(self, prompts: Prompts, correct: NDArray[np.bool_], diversity: Weights | None = None) -> None:
        """Open more where what is open succeeds."""
        self._accuracy = self.memory * self._accuracy + (1 - self.memory) * float(np.mean(correct))
        if self._accuracy >= self.above and self._open < 1:
            self._open, self._accuracy = min(1.0, self._open + self.step), 0.0

    def state(self) -> dict[str, Any]:
        """Return what is open, and the running accuracy."""
        return {**super().state(), "open": self._open, "accuracy": self._accuracy}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        super().restore(state)
        self._open, self._accuracy = state["open"], state["accuracy"]
