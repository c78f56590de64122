"""When to think, as an environment: an episode is one prompt and one decision."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from prunepolicy.envs.episodes import Taken
from prunepolicy.envs.prompt_env import Observation, PromptEnv, observed
from prunepolicy.envs.settings import EnvSettings, checked
from prunepolicy.envs.thinking.source import PromptSource
from prunepolicy.envs.thinking.task import ThinkTask


class ThinkSettings(EnvSettings):
    """Settings of an environment of thinking.

    Attributes:
        actions: `answer`, `think`, `abstain`, or tokens of thought.
        stages: what is paid; AutoThink's naive reward when None.
    """

    actions: tuple[str | float, ...] = ("answer", "think")
    stages: tuple[Any, ...] | None = None


class ThinkEnv(PromptEnv):
    """One step: see a prompt's features, choose how to meet it, get paid for the outcome.

    Rewards that depend on a whole batch see batches of one here: balance needs `share: running`, and
    comparisons within groups pay nothing. `ThinkVectorEnv`, which `gymnasium.make_vec` gives, is exact.

    Observation:
        The prompt's features, and the running share of thinking. A reset with a seed starts anew.

    Action:
        The index of one of `actions`.

    Options of reset:
        prompt: which of the source's, a number from 0 on.

    Args:
        source: where outcomes come from; a simulated model when None.
        render_mode: see `EpisodeEnv`.
        settings: those of `ThinkSettings`.
    """

    def __init__(
        self, source: PromptSource | None = None, render_mode: str | None = None, **settings: Any
    ) -> None:
        known = checked(ThinkSettings, settings, "Think")
        super().__init__(ThinkTask(source, known.actions, known.stages), render_mode)
        self.observation_space: spaces.Space[Any] = observed(self.task)
        self.action_space: spaces.Space[Any] = spaces.Discrete(len(self.task.choices))

    def take(self, action: np.int64) -> Taken[Observation]:
        """Meet the prompt, which ends the episode."""
        actions = np.array([int(action)])
        return self.paid(*self.task.meet(self.prompt, self.prompt, actions, self.np_random))
