"""The registry of algorithms: what learns, in steps that can be saved and continued."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from prunepolicy.agents.cluster import LocalRunner, Runner
from prunepolicy.agents.learned_pruning.collected import Collected
from prunepolicy.agents.progress import Steps
from prunepolicy.agents.prune.subject import Subject
from prunepolicy.agents.training.recipe import Recipe, RecipePart, RunRecipe, checked
from prunepolicy.policy.base import Policy
from prunepolicy.pruning.registry import Registry
from prunepolicy.pruning.repair import repairs

if TYPE_CHECKING:
    from prunepolicy.agents.training.course import Course


@dataclass(frozen=True)
class Assignment:
    """What a learner is to learn.

    Attributes:
        recipe: everything the user wrote.
        subjects: the models to learn on; each is loaded only when something asks for it.
        collected: statistics, shared with the judge, so that nothing is measured twice.
        runner: carries out what can be done apart: episodes, evaluations.
    """

    recipe: Recipe
    subjects: tuple[Subject, ...]
    steps: Steps = field(default_factory=Steps)
    collected: Collected = field(default_factory=Collected)
    runner: Runner = field(default_factory=LocalRunner)


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
    """

    recipe_type: ClassVar[type[RunRecipe]]

    @classmethod
    @abstractmethod
    def course_type(cls) -> type[Course]:
        """Return how runs of this algorithm are prepared, judged and reported."""

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


class Learner(SteppedLearner):
    """Improves one pruning policy.

    Attributes:
        config_type: settings of the algorithm, the `learner` part of a recipe.
    """

    recipe_type: ClassVar[type[RunRecipe]] = Recipe
    config_type: ClassVar[type[RecipePart]] = RecipePart

    @classmethod
    def course_type(cls) -> type[Course]:
        """Return the course of policies that prune."""
        from prunepolicy.agents.learned_pruning.course import PruningCourse  # it imports what learners are

        return PruningCourse

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other."""
        checked(cls.config_type, recipe.learner, "learner")
        recipe.every_budget  # noqa: B018  # Budgets check themselves.
        if recipe.policy.get("repair") is not None:
            repairs[str(recipe.policy["repair"])]

    @abstractmethod
    def __init__(self, assignment: Assignment) -> None:
        """Prepare to learn; everything random comes from `assignment.recipe.seed`."""

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The policy as learned so far; it can plan and be saved at any moment."""

    def evidence(self) -> dict[str, float]:
        """Return what the policy's card says beside the scores, such as a surrogate's correlation."""
        return {}


algorithms: Registry[type[SteppedLearner]] = Registry("algorithm", "prunepolicy.agents.algorithms")
