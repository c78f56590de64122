"""A probability of imitation that falls along half a cosine, whatever the model does."""

from __future__ import annotations

from math import cos, pi

from pydantic import Field

from prunepolicy.agents.thinking.lm.switches.registry import Mixture, Switch, switches


@switches.register
class CosineSwitch(Switch):
    """Draws with a probability that falls from `start` to `end` over `steps` steps."""

    start: float = Field(default=0.95, ge=0, le=1)
    end: float = Field(default=0.02, ge=0, le=1)
    steps: int = Field(default=200, ge=1)

    def mixture(self, step: int, chance: float) -> Mixture:
        """Return one of both."""
        done = min(1.0, step / self.steps)
        return Mixture.draw(self.end + (self.start - self.end) * (1 + cos(pi * done)) / 2, chance)
