"""PPO for graph policies: Stable-Baselines3's, over all training models and budgets of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

from prunepolicy.agents.learned_pruning.audited_cases import audited_cases
from prunepolicy.agents.learned_pruning.learner import Assignment, Learner
from prunepolicy.agents.learned_pruning.ppo_config import PPOConfig
from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.training.learner import LearnerState
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.envs.prune_case import PruneCase, budgeted_groups
from prunepolicy.envs.prune_env import MEASURED
from prunepolicy.envs.shaping import shapings
from prunepolicy.policy.kinds.graph import Graph, GraphConfig
from prunepolicy.pruning.errors import MissingExtraError, UsageError
from prunepolicy.pruning.io.config import StrictConfig, checked
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.units import UnitGraph

if TYPE_CHECKING:
    from prunepolicy.agents.learned_pruning.prune_agent import PruneAgent


class Ppo(Learner):
    """Trains a graph policy by clipped policy gradients."""

    config_type: ClassVar[type[StrictConfig]] = PPOConfig

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other."""
        super().check(recipe)
        recipe.policy_settings("graph", GraphConfig)
        config = checked(PPOConfig, recipe.learner, "learner")
        check_batches(config)
        shapings[config.shaping].check(MEASURED, "Prune")

    def __init__(self, assignment: Assignment) -> None:
        recipe = assignment.recipe
        settings = recipe.policy_settings("graph", GraphConfig)
        config = checked(PPOConfig, recipe.learner, "learner")
        policy = Graph(settings)
        probe = replace(policy.probe, seed=recipe.seed)
        for session in assignment.sessions:
            check_same_units(policy, session.checkpoint.graph, recipe.every_budget)
        cases, self._evidence = audited_cases(assignment, probe, config.reward)
        self._prepare(policy, config, cases, recipe.sizes, recipe.seed, assignment.runner)

    @classmethod
    def on_cases(
        cls, policy: Graph, config: PPOConfig, cases: Sequence[PruneCase], keep: Sequence[float], seed: int
    ) -> Self:
        """Learn on networks prepared elsewhere, without models."""
        learner = cls.__new__(cls)
        learner._evidence = {}
        learner._prepare(policy, config, cases, keep, seed, LocalRunner())
        return learner

    def _prepare(
        self,
        policy: Graph,
        config: PPOConfig,
        cases: Sequence[PruneCase],
        keep: Sequence[float],
        seed: int,
        runner: Runner,
    ) -> None:
        check_batches(config)
        try:
            from prunepolicy.agents.learned_pruning.prune_agent import PruneAgent
        except ImportError as error:
            raise MissingExtraError("PPO needs", "train") from error
        self.agent: PruneAgent = PruneAgent(policy, cases, keep, config, seed, runner)

    @property
    def policy(self) -> Graph:
        """The policy as learned so far."""
        return self.agent.policy

    def step(self) -> dict[str, float]:
        """Play one rollout, and learn from it."""
        return self.agent.learn(self.agent.config.episodes_per_step).metrics()

    def state(self) -> LearnerState:
        """Return weights, spreads, optimiser moments and the number of episodes."""
        return self.agent.state()

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned."""
        self.agent.restore(state)

    def evidence(self) -> dict[str, float]:
        """Return how well the surrogate predicts what was measured, where there is one."""
        return self._evidence


def check_batches(config: PPOConfig) -> None:
    """Raise `UsageError` where a step's episodes can't be divided as the settings want it."""
    episodes = config.episodes_per_step
    for name in ("episodes_per_context", "batch_size"):
        number = getattr(config, name)
        if episodes % number:
            raise UsageError(
                f"learner.episodes_per_step ({episodes}) must be a multiple of learner.{name} ({number})."
            )


def check_same_units(policy: Graph, graph: UnitGraph, budgets: Sequence[Budget]) -> None:
    """Raise `UsageError` where episodes would prune other units than the policy's plans do."""
    for budget in budgets:
        if not budget.kinds and set(policy.groups(graph, budget)) != set(budgeted_groups(graph, budget)):
            raise UsageError(
                f"{budget} leaves open which units may go; name them in the recipe's budgets, for example "
                "units: [ffn, layers]."
            )
