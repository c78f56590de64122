"""The same probability of imitation in every step: 0 only reinforces, 1 only imitates."""

from __future__ import annotations

from pydantic import Field

from prunepolicy.agents.thinking.lm.switches.registry import Mixture, Switch, switches


@switches.register
class Constant(Switch):
    """Draws with a fixed probability."""

    imitation: float = Field(default=0.0, ge=0, le=1)

    def mixture(self, step: int, chance: float) -> Mixture:
        """Return one of both."""
        return Mixture.draw(self.imitation, chance)
