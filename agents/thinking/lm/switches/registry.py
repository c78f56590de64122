"""The registry of switches: how much of a step is imitation, how much reinforcement."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from prunepolicy.pruning.registry import Registry


@dataclass(frozen=True)
class Mixture:
    """What a step consists of.

    Attributes:
        imitation: weight of that loss.
        reinforcement: weight of that loss.
        probability: of imitation, where one of both was drawn; its weight, where both are added.
    """

    imitation: float
    reinforcement: float
    probability: float

    @classmethod
    def draw(cls, probability: float, chance: float) -> Mixture:
        """Return imitation alone where `chance`, uniform on [0, 1), is below the probability."""
        imitates = chance < probability
        return cls(float(imitates), float(not imitates), probability)


@dataclass(frozen=True)
class SwitchObservation:
    """What a switch observes of a step.

    Attributes:
        imitation_norm: of the imitation loss's gradient, before clipping; None where there was none.
        divergence: KL divergence from the reference model, in nats per token; None where it wasn't measured.
        warm_up: whether the step was part of the warm-up.
    """

    imitation_norm: float | None = None
    divergence: float | None = None
    warm_up: bool = False


class Switch(BaseModel):
    """Divides steps; its fields are its settings, and unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def mixture(self, step: int, chance: float) -> Mixture:
        """Return what the step after `step` others consists of; `chance` is uniform on [0, 1)."""

    def observe(self, observed: SwitchObservation) -> None:
        """Learn from what a step showed."""

    def wants_probe(self, step: int) -> bool:
        """Return whether the imitation gradient is to be measured now, though nothing is imitated."""
        return False

    def state(self) -> dict[str, Any]:
        """Return what decides the next steps as JSON can hold it."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""


switches: Registry[type[Switch]] = Registry("switch", "prunepolicy.agents.thinking.lm.switches")
