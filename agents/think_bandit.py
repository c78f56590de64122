"""Learn when to think from outcomes alone: group-relative policy gradients on Think-v0.

The policy is a softmax of a linear function of what is observed, so that what it learns can be read: with
one feature and two actions it is a threshold on the difficulty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunepolicy.agents.recipe import RecipePart
from prunepolicy.envs.think_vector_env import ThinkVectorEnv
from prunepolicy.envs.thinking.groups import Scale, group_advantages
from prunepolicy.envs.thinking.schedule import NAIVE, Stage
from prunepolicy.envs.thinking.source import Source

Array = NDArray[np.float64]
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of Adam."""


class BanditConfig(RecipePart):
    """Settings of the learner.

    Attributes:
        actions: what may be done with a prompt.
        stages: what is paid.
        sampler: which prompts come next.
        prompts: in a batch.
        rollouts: of every prompt, compared with each other.
        steps: batches.
        learning_rate: Adam's.
        advantage: what rewards are divided by after their group's mean was subtracted.
        start: probability of the first action at the start, equal for all prompts; the others share the rest.
        seed: of everything random.
    """

    actions: tuple[str | float, ...] = ("answer", "think")
    stages: tuple[Stage, ...] = (NAIVE,)
    sampler: dict[str, Any] = Field(default_factory=lambda: {"name": "random"})
    prompts: int = Field(default=64, ge=1)
    rollouts: int = Field(default=8, ge=2)
    steps: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    advantage: Scale = "group"
    start: float = Field(default=0.5, gt=0, lt=1)
    seed: int = 0


class Bandit:
    """A policy and what it learns from.

    Attributes:
        weights: logits of the actions are `weights` times (1, observation), (actions, 1 + features).
    """

    def __init__(self, config: BanditConfig, source: Source | None = None) -> None:
        self.config = config
        self.env = ThinkVectorEnv(
            config.prompts * config.rollouts,
            source,
            config.actions,
            config.stages,
            config.rollouts,
            config.sampler,
        )
        self._observed, _ = self.env.reset(seed=config.seed)
        others = len(config.actions) - 1
        self.weights: Array = np.zeros((1 + others, 1 + self.env.task.features))
        self.weights[0, 0] = np.log(config.start) - np.log((1 - config.start) / others)
        self._moments: list[Array] = [np.zeros_like(self.weights) for _ in BETAS]
        self._steps = 0

    def learn(self) -> list[dict[str, float]]:
        """Take all steps, and return what there is to log of each."""
        return [self.step() for _ in range(self.config.steps - self._steps)]

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

    def probabilities(self) -> Array:
        """Return the probability of every action on every prompt of the source, (prompts, actions)."""
        return self._chances(self.env.task.observe(np.arange(len(self.env.task.source))))

    def state(self) -> dict[str, Any]:
        """Return everything that decides the next steps as JSON can hold it."""
        return {
            "steps": self._steps,
            "weights": self.weights.tolist(),
            "moments": [moment.tolist() for moment in self._moments],
            "env": self.env.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned, bit by bit the same."""
        self._steps = state["steps"]
        self.weights = np.array(state["weights"])
        self._moments = [np.array(moment) for moment in state["moments"]]
        self._observed = self.env.restore(state["env"])

    def _chances(self, observed: NDArray[np.float32]) -> Array:
        logits = _inputs(observed) @ self.weights.T
        chances = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(chances / chances.sum(1, keepdims=True))

    def _drawn(self, chances: Array) -> NDArray[np.int64]:
        luck = np.random.default_rng((self.config.seed, self._steps)).random((len(chances), 1))
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
