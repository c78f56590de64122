"""Pseudo-counts of successes and failures near a state, and the success rate they speak for.

Source: Ma et al., "Highly Efficient Self-Adaptive Reward Shaping" (ICLR 2025, arXiv 2408.03029).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from prunepolicy.envs.thinking.densities import Density, ExactDensity, RandomFeatureDensity

Array = NDArray[np.float64]


class Kernel(BaseModel):
    """How far one visited state counts for others: exp(-distance^2 / (2 bandwidth^2)).

    Attributes:
        form: `exact` remembers every state; `random_features` keeps a matrix of fixed size.
        bandwidth: in the units of states.
        features: size of the matrix.
        burn_in: states up to which nothing counts. The published code waits for either buffer alone, and
            so takes the rarer outcome for one that never happens; here both are counted together.
        seed: of the random features.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["exact", "random_features"] = "random_features"
    bandwidth: float = Field(default=0.2, gt=0)
    features: int = Field(default=128, ge=1)
    burn_in: int = Field(default=1000, ge=0)
    seed: int = 0

    def density(self) -> Density:
        """Return an empty buffer."""
        if self.form == "exact":
            return ExactDensity(self.bandwidth)
        return RandomFeatureDensity(self.bandwidth, self.features, self.seed)


class SuccessCounts:
    """Two buffers of states: those of successes, and those of failures."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel = kernel or Kernel()
        self._buffers = (self.kernel.density(), self.kernel.density())

    def add(self, states: ArrayLike, succeeded: ArrayLike) -> None:
        """Remember states, (n, dimensions), of what succeeded or failed, (n,)."""
        states, succeeded = np.asarray(states, np.float64), np.asarray(succeeded, bool)
        for buffer, rows in zip(self._buffers, (succeeded, ~succeeded), strict=True):
            if rows.any():
                buffer.add(states[rows])

    def fade(self, share: float) -> None:
        """Let all counts shrink to `share` of what they are."""
        for buffer in self._buffers:
            buffer.fade(share)

    def counts(self, states: ArrayLike) -> tuple[Array, Array]:
        """Return the pseudo-counts of successes and failures at every state."""
        states = np.asarray(states, np.float64)
        successes, failures = self._buffers
        if successes.added + failures.added <= self.kernel.burn_in:
            return np.zeros(len(states)), np.zeros(len(states))
        return successes.count(states), failures.count(states)

    def mean(self, states: ArrayLike) -> Array:
        """Return the mean success rate, (successes + 1) / (successes + failures + 2)."""
        successes, failures = self.counts(states)
        return (successes + 1) / (successes + failures + 2)

    def draw(self, states: ArrayLike, generator: np.random.Generator) -> Array:
        """Return success rates drawn from Beta(successes + 1, failures + 1), one per state."""
        successes, failures = self.counts(states)
        return generator.beta(successes + 1, failures + 1)

    def state(self) -> dict[str, Any]:
        """Return everything remembered as JSON can hold it."""
        successes, failures = self._buffers
        return {"successes": successes.state(), "failures": failures.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        successes, failures = self._buffers
        successes.restore(state["successes"])
        failures.restore(state["failures"])
