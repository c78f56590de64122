"""What learns a pruning policy, and what it is given to learn it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from prunepolicy.agents.learned_pruning.shared_stats import SharedStats
from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.recipe import Recipe, RunRecipe
from prunepolicy.policy.base import Policy
from prunepolicy.pruning.io.config import checked
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.repair import repairs
from prunepolicy.pruning.session.model_session import ModelSession


@dataclass(frozen=True)
class Assignment:
    """What a learner is to learn.

    Attributes:
        recipe: everything the user wrote.
        sessions: the models to learn on; each is loaded only when something asks for it.
        collected: statistics, shared with the evaluator, so that nothing is measured twice.
        runner: carries out what can be done apart: episodes, evaluations.
    """

    recipe: Recipe
    sessions: tuple[ModelSession, ...]
    progress: ProgressReporter = field(default_factory=ProgressReporter)
    collected: SharedStats = field(default_factory=SharedStats)
    runner: Runner = field(default_factory=LocalRunner)


class Learner(SteppedLearner):
    """Improves one pruning policy."""

    recipe_type: ClassVar[type[RunRecipe]] = Recipe

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
