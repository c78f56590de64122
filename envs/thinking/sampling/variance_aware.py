"""MMR1's variance-aware sampling: prompts whose outcomes vary teach most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from prunepolicy.envs.thinking.sampling.registry import Prompts, Sampler, Weights, samplers

SMALLEST = 1e-6
"""Weight below which no prompt falls, so that none is lost for good."""


@samplers.register
class VarianceAware(Sampler):
    """Draws a share `mixed` of a batch by how much outcomes vary, with repetition, the rest uniformly.

    A prompt's weight is `outcome` * p (1 - p) + (1 - `outcome`) * d: p its accuracy so far, d how different
    its answers are from each other. Prompts that weren't seen yet weigh as if p were a half. Source: MMR1
    (arXiv 2509.21268); d is one minus the similarity, where the released code adds the similarity.

    Attributes:
        mixed: share drawn by weight.
        outcome: weight of outcomes against that of diversity.
        refresh: batches between updates of the weights.
        memory: what remains of earlier outcomes when the weights are updated.
    """

    mixed: float = Field(default=0.5, ge=0, le=1)
    outcome: float = Field(default=0.8, ge=0, le=1)
    refresh: int = Field(default=28, ge=1)
    memory: float = Field(default=0.5, ge=0, le=1)
    _rights: Weights = PrivateAttr()
    _tries: Weights = PrivateAttr()
    _diversity: Weights = PrivateAttr()
    _weights: Weights = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Start with equal weights."""
        super().model_post_init(context)
        self._rights, self._tries, self._diversity = (np.zeros(self.prompts) for _ in range(3))
        self._weights = self.promise()

    @property
    def reads_diversity(self) -> bool:
        """Whether it weighs anything."""
        return self.outcome < 1 and self.mixed > 0

    def promise(self) -> Weights:
        """Return the weight of every prompt by what is known now."""
        share = np.where(self._tries > 0, self._rights / np.maximum(self._tries, SMALLEST), 0.5)
        # p (1 - p) is the variance of an outcome: a prompt that is always solved or never has no advantage to
        # learn from, since rewards within its group are equal.
        varied = self.outcome * share * (1 - share)
        weights: Weights = varied + (1 - self.outcome) * self._diversity
        return np.maximum(weights, SMALLEST)

    def draw(self, count: int, generator: np.random.Generator) -> Prompts:
        """Return `count` prompts, the weighted ones first."""
        if self._batches % self.refresh == 0:
            self._weights = self.promise()
            self._rights, self._tries = self.memory * self._rights, self.memory * self._tries
        weighted = round(self.mixed * count)
        chances = self._weights / self._weights.sum()
        chosen = generator.choice(self.prompts, weighted, p=chances)
        return np.concatenate([chosen, generator.choice(self.prompts, count - weighted)])

    def observe(self, prompts: Prompts, correct: NDArray[np.bool_], diversity: Weights | None = None) -> None:
        """Count how often prompts were tried and solved."""
        self._tries += np.bincount(prompts, minlength=self.prompts)
        self._rights += np.bincount(prompts, correct, minlength=self.prompts)
        if diversity is not None:
            self._diversity[prompts] = diversity

    def state(self) -> dict[str, Any]:
        """Return counts and weights."""
        lists = {name: getattr(self, f"_{name}").tolist() for name in _REMEMBERED}
        return {**super().state(), **lists}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        super().restore(state)
        for name in _REMEMBERED:
            setattr(self, f"_{name}", np.array(state[name], np.float64))


_REMEMBERED = ("rights", "tries", "diversity", "weights")
