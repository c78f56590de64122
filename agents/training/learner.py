"""What learns, in steps that can be saved and continued."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.pruning.io.config import StrictConfig


@dataclass(frozen=True)
class LearnerState:
    """Everything a learner needs to go on as if it had never stopped.

    Attributes:
        tensors: weights, optimiser moments, states of torch generators (they are byte tensors).
        data: whatever else JSON can hold (counters, the state of a numpy generator).
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


class SteppedLearner(ABC):
    """Learns in steps.

    Attributes:
        recipe_type: what a recipe of this algorithm says.
        config_type: settings of the algorithm, where the `learner` part of its recipes is a plain mapping.
    """

    recipe_type: ClassVar[type[RunRecipe]]
    config_type: ClassVar[type[StrictConfig]] = StrictConfig

    @classmethod  # noqa: B027  # Most recipes say all by their types.
    def check(cls, recipe: Any) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other.

        Args:
            recipe: of the `recipe_type`; no model that it names has been opened.
        """

    @property
    def steps_left(self) -> float:
        """Steps until there is nothing left to learn, though the recipe may allow more."""
        return math.inf

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Learn from one batch and return what to log, `reward` among it where there is one."""

    @abstractmethod
    def state(self) -> LearnerState:
        """Return everything that decides what the next steps do."""

    @abstractmethod
    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned, bit by bit the same on a CPU."""
