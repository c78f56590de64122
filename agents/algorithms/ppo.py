"""PPO for graph policies: Stable-Baselines3's, over all training models and budgets of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from prunepolicy.agents.algorithms.registry import Assignment, Learner, LearnerState, algorithms
from prunepolicy.agents.cluster import LocalRunner, Runner
from prunepolicy.agents.learned_pruning.audited_cases import Reward, audited_cases
from prunepolicy.agents.training.recipe import Recipe, RecipePart, checked
from prunepolicy.envs.prune_case import PruneCase, budgeted_groups
from prunepolicy.envs.prune_env import MEASURED
from prunepolicy.envs.shaping import shapings
from prunepolicy.policy.kinds.graph import Graph, GraphConfig
from prunepolicy.pruning.errors import MissingExtraError, UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.units import UnitGraph

if TYPE_CHECKING:
    from prunepolicy.agents.learned_pruning.prune_agent import PruneAgent


class PPOConfig(RecipePart):
    """Settings of the learner.

    An episode is one plan for one network and one budget, decided in one step.

    Attributes:
        shaping: the reward.
        reward: where the rise of the loss comes from: `surrogate` (predicted, where the network confirms
            it), `measured`, measured after the policy's repair (`recovered`), or `auto`: the surrogate for
            models that confirm it, and the measured rise for the others.
        episodes: per learning step.
        repeats: episodes of a step that share network and budget, so that they can be compared; 1 leaves
            the comparison to the value head.
        epochs: passes over the episodes of a step.
        minibatch: episodes per optimiser step.
        clip: largest change of an action's probability that is rewarded, as a share.
        divergence: from the policy that played, beyond which a step learns no more from its episodes.
        entropy: weight of the entropy.
        std: spread of every decision at the start; decisions lie between -1 and 1.
        emphases: that of emphases, as a share of `std`: what reorders units at random drowns what ratios do.
    """

    shaping: str = "quality"
    reward: Reward = "auto"
    episodes: int = Field(default=32, ge=2)
    repeats: int = Field(default=8, ge=1)
    epochs: int = Field(default=4, ge=1)
    minibatch: int = Field(default=32, ge=2)
    clip: float = Field(default=0.2, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    divergence: float = Field(default=0.1, gt=0)
    entropy: float = Field(default=0.0, ge=0)
    std: float = Field(default=0.15, gt=0)
    emphases: float = Field(default=1.0, gt=0)


class Ppo(Learner):
    """Improves a graph policy by clipped policy gradients."""

    config_type: ClassVar[type[RecipePart]] = PPOConfig

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
        for subject in assignment.subjects:
            check_same_units(policy, subject.checkpoint.graph, recipe.every_budget)
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
        return self.agent.learn(self.agent.config.episodes).metrics()

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
    for name, number in (("repeats", config.repeats), ("minibatch", config.minibatch)):
        if config.episodes % number:
            raise UsageError(
                f"learner.episodes ({config.episodes}) must be a multiple of learner.{name} ({number})."
            )


def check_same_units(policy: Graph, graph: UnitGraph, budgets: Sequence[Budget]) -> None:
    """Raise `UsageError` where episodes would prune other units than the policy's plans do."""
    for budget in budgets:
        if not budget.kinds and set(policy.groups(graph, budget)) != set(budgeted_groups(graph, budget)):
            raise UsageError(
                f"{budget} leaves open which units may go; name them in the recipe's budgets, for example "
                "units: [ffn, layers]."
            )


algorithms.add("ppo", Ppo)
