"""SASR-inspired: imitation as long as its gradient is large, compared with the end of the warm-up.

The paper (arXiv 2505.13026) draws between both per step, from the gradient's norm and the divergence from
the start. Its constants couldn't be verified; form and constants here are this project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr

from prunepolicy.agents.thinking.lm.switches.registry import Mixture, Switch, SwitchObservation, switches


@switches.register
class Sasr(Switch):
    """Draws imitation with probability G / (G + gamma W), within bounds.

    G is a running mean of the imitation gradient's norm, W the mean norm in the last `window` steps of the
    warm-up. A divergence K from the start beyond `drift` adds `pull` (K - drift).

    Attributes:
        gamma: 1 starts with a probability of one half, 0.25 with 0.8.
        decay: of the running mean.
        probe: steps without imitation after which the gradient is measured on demonstrations, since the
            probability would otherwise stay where it is.
    """

    gamma: float = Field(default=1.0, gt=0)
    low: float = Field(default=0.02, ge=0, le=1)
    high: float = Field(default=0.95, ge=0, le=1)
    decay: float = Field(default=0.9, ge=0, lt=1)
    window: int = Field(default=10, ge=1)
    probe: int = Field(default=10, ge=1)
    drift: float = Field(default=0.5, ge=0)
    pull: float = Field(default=0.0, ge=0)
    _warm: list[float] = PrivateAttr(default_factory=list)
    _norm: float | None = PrivateAttr(default=None)
    _divergence: float = PrivateAttr(default=0.0)
    _unseen: int = PrivateAttr(default=0)

    @property
    def probability(self) -> float:
        """Of imitation, now; one half before any norm is known and gamma is 1."""
        warm = sum(self._warm) / len(self._warm) if self._warm else 1.0
        norm = warm if self._norm is None else self._norm
        total = norm + self.gamma * warm
        drawn = norm / total if total else 0.5
        pulled = drawn + self.pull * max(0.0, self._divergence - self.drift)
        return min(self.high, max(self.low, pulled))

    def mixture(self, step: int, chance: float) -> Mixture:
        """Return one of both."""
        return Mixture.draw(self.probability, chance)

    def observe(self, observed: SwitchObservation) -> None:
        """Refresh the norms and the divergence."""
        norm = observed.imitation_norm
        self._unseen = self._unseen + 1 if norm is None else 0
        if observed.divergence is not None:
            self._divergence = observed.divergence
        if norm is None:
            return
        if observed.warm_up:
            self._warm = [*self._warm, norm][-self.window :]
            return
        before = norm if self._norm is None else self._norm
        self._norm = self.decay * before + (1 - self.decay) * norm

    def wants_probe(self, step: int) -> bool:
        """Return whether nothing was imitated for too long."""
        return self._unseen >= self.probe

    def state(self) -> dict[str, Any]:
        """Return the norms and what else decides the next draw."""
        return {
            "warm": self._warm,
            "norm": self._norm,
            "divergence": self._divergence,
            "unseen": self._unseen,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._warm, self._norm = list(state["warm"]), state["norm"]
        self._divergence, self._unseen = state["divergence"], state["unseen"]
