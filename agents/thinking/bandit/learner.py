"""Learn when to think from outcomes alone: group-relative policy gradients on Think-v0.

The policy is a softmax of a linear function of what is observed, so that what it learns can be read: with
one feature and two actions it is a threshold on the difficulty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunepolicy.agents.training.learner import LearnerState, SteppedLearner
from prunepolicy.agents.training.recipe import RunEvaluation, RunRecipe
from prunepolicy.envs.think_vector_env import ThinkVectorEnv
from prunepolicy.envs.thinking.cached import CachedSource
from prunepolicy.envs.thinking.groups import Scale, group_advantages
from prunepolicy.envs.thinking.sampling import samplers
from prunepolicy.envs.thinking.schedule import NAIVE, Schedule, Stage
from prunepolicy.envs.thinking.settings import built
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import PromptSource
from prunepolicy.envs.thinking.task import ThinkTask
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm, terms
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import OldNames, StrictConfig

Array = NDArray[np.float64]
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of Adam."""


class BanditConfig(StrictConfig):
    """Settings of the learner.

    Attributes:
        actions: what may be done with a prompt.
        stages: of the reward.
        sampler: which prompts come next.
        prompts_per_step: prompts in a batch.
        num_generations: rollouts per prompt, compared with each other.
        learning_rate: Adam's.
        advantage: what rewards are divided by after their group's mean was subtracted.
        initial_probability: of the first action, equal for all prompts; the others share the rest.
    """

    renamed: ClassVar[OldNames] = {
        "prompts": "prompts_per_step",
        "rollouts": "num_generations",
        "start": "initial_probability",
    }
    actions: tuple[str | float, ...] = ("answer", "think")
    stages: tuple[Stage, ...] = (NAIVE,)
    sampler: dict[str, Any] = Field(default_factory=lambda: {"name": "random"})
    prompts_per_step: int = Field(default=64, ge=1)
    num_generations: int = Field(default=8, ge=2)
    learning_rate: float = Field(default=0.1, gt=0)
    advantage: Scale = "group"
    initial_probability: float = Field(default=0.5, gt=0, lt=1)


class PromptsRecipe(StrictConfig):
    """Prompts, and what becomes of each action.

    Attributes:
        rollouts: file of a real model's rollouts, written by `CachedSource.save`; every fourth prompt of it
            is for evaluation. Without one, prompts and outcomes are simulated.
        simulated: simulated prompts to learn from; as many others are for evaluation.
        difficulty_noise: standard deviation of the noise on the observed difficulty of a simulated prompt.
        hide_difficulty: leave it out of the observation.
    """

    renamed: ClassVar[OldNames] = {"blur": "difficulty_noise", "hidden": "hide_difficulty"}
    rollouts: Path | None = None
    simulated: int = Field(default=1024, ge=2)
    difficulty_noise: float = Field(default=0.0, ge=0)
    hide_difficulty: bool = False

    def sources(self, seed: int) -> tuple[PromptSource, PromptSource]:
        """Return the sources for training and for evaluation."""
        if self.rollouts is None:
            noise, hidden = self.difficulty_noise, self.hide_difficulty
            made = (SimulatedSource(None, self.simulated, noise, hidden, 2 * seed + i) for i in (0, 1))
            return next(made), next(made)
        cached = CachedSource.load(self.rollouts)
        evaluation = np.arange(len(cached)) % 4 == 3
        return cached.where(~evaluation), cached.where(evaluation)


class BanditEvaluation(RunEvaluation):
    """How decisions are evaluated.

    Attributes:
        reward: the term, with its settings, whose expected payment chooses the best step.
    """

    reward: dict[str, Any] = Field(default_factory=lambda: {"name": "naive"})

    @property
    def term(self) -> OutcomeTerm:
        """The term that pays.

        Raises:
            UsageError: for one that doesn't pay outcomes alone.
        """
        term = built(terms, self.reward)
        if not isinstance(term, OutcomeTerm):
            raise UsageError(f"The term {self.reward['name']} pays no outcome by itself.")
        return term


class BanditRecipe(RunRecipe):
    """Everything that decides what is learned; `max_steps` are batches."""

    prompts: PromptsRecipe = PromptsRecipe()
    learner: BanditConfig = BanditConfig()
    evaluation: BanditEvaluation = BanditEvaluation()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The rollouts of a real model."""
        return (str(self.prompts.rollouts),) if self.prompts.rollouts else ()


class ThinkBandit(SteppedLearner):
    """A policy and what it learns from.

    Attributes:
        weights: logits of the actions are `weights` times (1, observation), (actions, 1 + features).
    """

    recipe_type: ClassVar[type[RunRecipe]] = BanditRecipe

    @classmethod
    def check(cls, recipe: BanditRecipe) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other."""
        recipe.evaluation.term  # noqa: B018  # It checks itself.
        Schedule(recipe.learner.stages)
        built(samplers, {**recipe.learner.sampler, "prompts": recipe.learner.prompts_per_step})
        if recipe.prompts.rollouts is not None and not recipe.prompts.rollouts.is_file():
            raise UsageError(f"There is no file of rollouts at {recipe.prompts.rollouts}.")

    def __init__(self, config: BanditConfig, source: PromptSource | None = None, seed: int = 0) -> None:
        self.config, self.seed = config, seed
        self.env = ThinkVectorEnv(
            config.prompts_per_step * config.num_generations,
            source,
            actions=config.actions,
            stages=config.stages,
            rollouts_per_prompt=config.num_generations,
            sampler=config.sampler,
        )
        self._observed, _ = self.env.reset(seed=seed)
        others, chance = len(config.actions) - 1, config.initial_probability
        self.weights: Array = np.zeros((1 + others, 1 + self.env.task.features))
        self.weights[0, 0] = np.log(chance) - np.log((1 - chance) / others)
        self._moments: list[Array] = [np.zeros_like(self.weights) for _ in BETAS]
        self._steps = 0

    def learn(self, steps: int) -> list[dict[str, float]]:
        """Take so many steps, and return what there is to log of each."""
        return [self.step() for _ in range(steps)]

    def step(self) -> dict[str, float]:
        """Play a batch, learn from it, and return its statistics."""
        chances = self._chances(self._observed)
        actions = self._drawn(chances)
        inputs = _inputs(self._observed)
        self._observed, rewards, _, _, info = self.env.step(actions)
        advantages = group_advantages(rewards, info["rollouts"].group, self.config.advantage)
        chosen = np.eye(len(self.weights))[actions]
        self._ascend((advantages[:, None] * (chosen - chances)).T @ inputs / len(actions))
        return dict(info["shaped"].statistics)

    def probabilities(self, source: PromptSource | None = None) -> Array:
        """Return the probability of every action on every prompt of `source`, (prompts, actions).

        Args:
            source: prompts that it didn't learn from; those that it did when None.
        """
        task = ThinkTask(source or self.env.task.source)
        task.share = self.env.task.share
        return self._chances(task.observe(np.arange(len(task.source))))

    def state(self) -> LearnerState:
        """Return everything that decides the next steps."""
        moments = [moment.tolist() for moment in self._moments]
        return LearnerState(
            data={
                "steps": self._steps,
                "weights": self.weights.tolist(),
                "moments": moments,
                "env": self.env.state(),
            }
        )

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned, bit by bit the same."""
        self._steps = state.data["steps"]
        self.weights = np.array(state.data["weights"])
        self._moments = [np.array(moment) for moment in state.data["moments"]]
        self._observed = self.env.restore(state.data["env"])

    def _chances(self, observed: NDArray[np.float32]) -> Array:
        logits = _inputs(observed) @ self.weights.T
        chances = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(chances / chances.sum(1, keepdims=True))

    def _drawn(self, chances: Array) -> NDArray[np.int64]:
        luck = np.random.default_rng((self.seed, self._steps)).random((len(chances), 1))
        return np.asarray((luck > chances.cumsum(1)[:, :-1]).sum(1), np.int64)

    def _ascend(self, gradient: Array) -> None:
        """Take one step of Adam uphill."""
        self._steps += 1
        powers = (gradient, np.square(gradient))
        for index, (beta, power) in enumerate(zip(BETAS, powers, strict=True)):
            self._moments[index] = beta * self._moments[index] + (1 - beta) * power
        mean, square = (m / (1 - b**self._steps) for m, b in zip(self._moments, BETAS, strict=True))
        self.weights = self.weights + self.config.learning_rate * mean / (np.sqrt(square) + EPSILON)


def _inputs(observed: NDArray[np.float32]) -> Array:
    """Return observations with a leading 1."""
    return np.concatenate([np.ones((len(observed), 1)), observed.astype(np.float64)], axis=1)
