"""Self-adaptive success-rate shaping: a mode that went well on prompts like this one earns more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from prunepolicy.envs.thinking.rollouts import Mode, Rewards, Rollouts
from prunepolicy.envs.thinking.success_counts import Kernel, SuccessCounts
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms


@terms.register
class SuccessRate(OutcomeTerm):
    """Pays weight * (2u - 1), u drawn from Beta(successes + 1, failures + 1) of prompts like this one.

    Successes and failures are pseudo-counts over the prompts' features, for every mode apart, of the
    batches so far. One u is drawn per prompt and mode: within a group it only separates modes, and
    its noise doesn't pass for an advantage of one answer over another of its kind. Not potential-based,
    so it can move the optimum: keep the weight small. Source: SASR (Ma et al., ICLR 2025, arXiv
    2408.03029), where states are those of control tasks; prompts and modes as keys are our adaptation.

    Attributes:
        weight: of the shaped part.
        kernel: how counts reach from prompt to prompt.
        memory: what remains of all counts after a batch; policies drift.
        seed: of the draws.
    """

    weight: float = Field(default=0.3, ge=0)
    kernel: Kernel = Kernel()
    memory: float = Field(default=0.99, gt=0, le=1)
    seed: int = 0
    _counts: dict[Mode, SuccessCounts] = PrivateAttr(default_factory=dict)
    _batches: int = PrivateAttr(default=0)

    def model_post_init(self, context: Any) -> None:
        """Start without any counts."""
        self._counts = {mode: SuccessCounts(self.kernel) for mode in Mode}

    def pay(self, rollouts: Rollouts) -> Rewards:
        """Return the payment of every rollout."""
        pairs = np.stack([rollouts.group, rollouts.mode])
        _, first, place = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
        drawn = self._drawn(rollouts.mode[first], rollouts.features[first])
        return self.weight * (2 * drawn[place.reshape(-1)] - 1)

    def observe(self, rollouts: Rollouts) -> None:
        """Count every rollout as a success or a failure of its mode."""
        for mode, counts in self._counts.items():
            rows = rollouts.mode == mode
            counts.fade(self.memory)
            counts.add(rollouts.features[rows], rollouts.correct[rows])
        self._batches += 1

    def state(self) -> dict[str, Any]:
        """Return all counts."""
        counts = {mode.name: counts.state() for mode, counts in self._counts.items()}
        return {"batches": self._batches, "counts": counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._batches = state["batches"]
        for mode, counts in self._counts.items():
            counts.restore(state["counts"][mode.name])

    def _drawn(self, modes: NDArray[np.int64], features: NDArray[np.float64]) -> NDArray[np.float64]:
        generator = np.random.default_rng((self.seed, self._batches))
        drawn = np.zeros(len(modes))
        for mode, counts in self._counts.items():
            rows = modes == mode
            drawn[rows] = counts.draw(features[rows], generator)
        return drawn
