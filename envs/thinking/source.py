"""Where outcomes come from when no model runs: prompts, and what becomes of each way to meet them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.pruning.errors import UsageError

Array = NDArray[np.float64]
Prompts = NDArray[np.int64]
"""Indices of prompts."""
ABSTAINING = 1.0
"""Tokens it takes to say that one doesn't know."""


@dataclass(frozen=True)
class Choice:
    """One way to meet a prompt.

    Attributes:
        mode: whether to think.
        budget: tokens of thought; what isn't answered by then is wrong, as in ThinkPrune.
    """

    mode: Mode
    budget: float = math.inf

    def __post_init__(self) -> None:
        if not self.budget > 0 or (self.mode is not Mode.THINK and self.budget != math.inf):
            raise UsageError(f"A budget is a positive number of tokens of thought; got {self.budget}.")


ANSWER, THINK, ABSTAIN = (Choice(mode) for mode in Mode)


def choices(names: Sequence[str | float]) -> tuple[Choice, ...]:
    """Return the choices that names (`answer`, `think`, `abstain`) and budgets in tokens stand for.

    Raises:
        UsageError: for any other name, or fewer than two choices.
    """
    known = {mode.name.lower(): Choice(mode) for mode in Mode}
    for name in names:
        if isinstance(name, str) and name not in known:
            raise UsageError(f"An action is answer, think, abstain or a number of tokens; got {name!r}.")
    if len(names) < 2:
        raise UsageError("There is nothing to decide between fewer than two actions.")
    return tuple(known[name] if isinstance(name, str) else Choice(Mode.THINK, float(name)) for name in names)


@dataclass(frozen=True)
class ModeAndBudget:
    """The mode and the token budget with which each of several prompts is answered."""

    mode: NDArray[np.int64]
    budget: Array

    @classmethod
    def by(cls, taken: Sequence[Choice], actions: NDArray[np.int64]) -> ModeAndBudget:
        """Return what actions, indices of choices, stand for."""
        mode = np.array([choice.mode for choice in taken], np.int64)
        return cls(mode[actions], np.array([choice.budget for choice in taken])[actions])


class PromptSource(ABC):
    """Prompts with their outcomes.

    Attributes:
        features: what is seen of every prompt before deciding, (prompts, features).
        difficulty: of every prompt, for oracles and metrics alone.
    """

    features: Array
    difficulty: Array

    def __len__(self) -> int:
        return len(self.difficulty)

    @abstractmethod
    def draw(
        self, prompts: Prompts, thinks: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[NDArray[np.bool_], Array]:
        """Return whether one answer to each of `prompts` is correct, and its tokens; no budgets."""

    @abstractmethod
    def expected(self, choice: Choice) -> tuple[Array, Array]:
        """Return accuracy and mean tokens of every prompt when it is met by `choice`."""

    def rollouts(self, prompts: Prompts, met: ModeAndBudget, generator: np.random.Generator) -> Rollouts:
        """Return one rollout per prompt; equal prompts are a group."""
        correct, length = self.draw(prompts, met.mode == Mode.THINK, generator)
        within, declined = length <= met.budget, met.mode == Mode.ABSTAIN
        return Rollouts.of(
            prompts,
            met.mode,
            correct & within & ~declined,
            np.where(declined, ABSTAINING, np.minimum(length, met.budget)),
            budget=met.budget,
            features=self.features[prompts],
        )
