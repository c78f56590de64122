"""CHORD: both losses in every step, the weight of imitation falling.

Source: arXiv 2508.11408, which lets the weight fall from 0.9 to 0.05. Its weights of single tokens are
`imitation.token_weight`.
"""

from __future__ import annotations

from pydantic import Field

from prunepolicy.agents.thinking.lm.switches.registry import Mixture, Switch, switches


@switches.register
class Chord(Switch):
    """Adds both losses, with a weight that falls linearly from `start` to `end` over `steps` steps."""

    start: float = Field(default=0.9, ge=0, le=1)
    end: float = Field(default=0.05, ge=0, le=1)
    steps: int = Field(default=200, ge=1)

    def mixture(self, step: int, chance: float) -> Mixture:
        """Return both."""
        done = min(1.0, step / self.steps)
        weight = self.start + (self.end - self.start) * done
        return Mixture(weight, 1 - weight, weight)
