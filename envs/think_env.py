"""When to think, as an environment: an episode is one prompt and one decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prunepolicy.envs.thinking.schedule import Stage
from prunepolicy.envs.thinking.source import Source
from prunepolicy.envs.thinking.task import FARTHEST, ThinkTask

Observation = NDArray[np.float32]


class ThinkEnv(gymnasium.Env[Observation, np.int64]):
    """One step: see a prompt's features, choose how to meet it, get paid for the outcome.

    Rewards that depend on a whole batch see batches of one here: balance needs `share: running`, and
    comparisons within groups pay nothing. `ThinkVectorEnv`, which `gymnasium.make_vec` gives, is exact.

    Observation:
        The prompt's features, and the running share of thinking.

    Action:
        The index of one of `actions`.

    Args:
        source: where outcomes come from; a simulated model when None.
        actions: `answer`, `think`, `abstain`, or tokens of thought.
        stages: what is paid; AutoThink's naive reward when None. A reset with a seed starts anew.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (declared by the base class)

    def __init__(
        self,
        source: Source | None = None,
        actions: Sequence[str | float] = ("answer", "think"),
        stages: Sequence[Stage | Mapping[str, Any]] | None = None,
    ) -> None:
        self.task = ThinkTask(source, actions, stages)
        self.observation_space: spaces.Space[Any] = observed(self.task)
        self.action_space: spaces.Space[Any] = spaces.Discrete(len(self.task.choices))
        self._prompt = np.zeros(1, np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a prompt; `options` may fix it as `prompt`."""
        super().reset(seed=seed)
        if seed is not None:
            self.task.start()
        drawn = int(self.np_random.integers(len(self.task.source)))
        self._prompt = np.array([int((options or {}).get("prompt", drawn))])
        return self.task.observe(self._prompt)[0], {"prompt": int(self._prompt[0])}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Meet the prompt, which ends the episode."""
        actions = np.array([int(action)])
        rollouts, shaped = self.task.meet(self._prompt, self._prompt, actions, self.np_random)
        info = {"correct": bool(rollouts.correct[0]), "length": float(rollouts.length[0])}
        return self.task.observe(self._prompt)[0], float(shaped.rewards[0]), True, False, info


def observed(task: ThinkTask) -> spaces.Box:
    """Return the space of one observation of `task`."""
    return spaces.Box(-FARTHEST, FARTHEST, (task.features,), np.float32)
