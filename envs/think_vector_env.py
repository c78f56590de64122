"""Many prompts at once, whose rewards depend on each other exactly as those of a training batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from pydantic import Field

from prunepolicy.envs.episodes import RENDERING, ResetNeededError, known_mode, rendered
from prunepolicy.envs.prompt_env import drawn, measures, observed
from prunepolicy.envs.settings import checked
from prunepolicy.envs.think_env import ThinkSettings
from prunepolicy.envs.thinking.sampling import Sampler, samplers
from prunepolicy.envs.thinking.settings import built
from prunepolicy.envs.thinking.source import PromptSource
from prunepolicy.envs.thinking.task import ThinkTask
from prunepolicy.pruning.errors import UsageError

Observations = NDArray[np.float32]
Actions = NDArray[np.int64]
Step = tuple[Observations, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]


class ThinkVectorSettings(ThinkSettings):
    """Settings of a vector environment of thinking.

    Attributes:
        actions, stages: as in `ThinkSettings`.
        rollouts_per_prompt: rows after each other that share a prompt and are compared: a GRPO group.
        sampler: which prompts come next: `name` and settings.
    """

    rollouts_per_prompt: int = Field(default=1, ge=1)
    sampler: dict[str, Any] | None = None


class ThinkVectorEnv(gymnasium.vector.VectorEnv[Observations, Actions, NDArray[Any]]):
    """`ThinkEnv` for `num_envs` prompts in one step of numpy; every step is a batch that is shaped whole.

    Every episode ends after its step, and the observation that comes back is that of the next prompt.

    Args:
        num_envs: rollouts in a batch.
        source: where outcomes come from; a simulated model when None.
        render_mode: as in `EpisodeEnv`; there is one picture of the whole batch.
        settings: those of `ThinkVectorSettings`.
    """

    metadata: dict[str, Any] = RENDERING | {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        source: PromptSource | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        known = checked(ThinkVectorSettings, settings, "Think")
        self.num_envs, self.each, self.render_mode = (
            num_envs,
            known.rollouts_per_prompt,
            known_mode(render_mode),
        )
        if num_envs < 1 or num_envs % self.each:
            raise UsageError(f"{num_envs} environments can't share prompts by {self.each}.")
        self.task = ThinkTask(source, known.actions, known.stages)
        self.single_observation_space: spaces.Space[Any] = observed(self.task)
        self.single_action_space: spaces.Space[Any] = spaces.Discrete(len(self.task.choices))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._groups = np.arange(num_envs) // self.each
        self._sampling, self._begun = known.sampler or {"name": "random"}, False
        self._start(0)

    def _start(self, seed: int) -> None:
        self._seed = seed
        self.task.start()
        known = {"prompts": len(self.task.source), "difficulty": self.task.source.difficulty.tolist()}
        self.sampler: Sampler = built(samplers, {**self._sampling, **known, "seed": seed})
        self._prompts = np.zeros(self.num_envs, np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Draw prompts; with a seed, everything starts anew."""
        super().reset(seed=seed)
        if seed is not None:
            self._start(seed)
        self._draw()
        self._begun = True
        return self.task.observe(self._prompts), {"prompt": self._prompts}

    def step(self, actions: Actions) -> Step:
        """Meet all prompts, pay for the batch, and draw the next prompts.

        The last dictionary holds `final_obs`, and of what ended `prompt`, `rollouts`, `shaped`, and what the
        rewards were made of, `measured` and `terms`.

        Raises:
            ResetNeededError: before the first reset.
            UsageError: when there isn't one action per environment.
        """
        if not self._begun:
            raise ResetNeededError("No episode has begun; call reset() before step().")
        prompts, actions = self._prompts, np.asarray(actions)
        if not self.action_space.contains(actions.astype(np.int64)):
            raise UsageError(f"Actions are an element of {self.action_space}; got {actions!r:.80}.")
        actions = actions.astype(np.int64)
        ended = self.task.observe(prompts)
        rollouts, shaped = self.task.meet(prompts, self._groups, actions, self.np_random)
        self.sampler.observe(prompts, rollouts.correct)
        self._draw()
        info = {"final_obs": ended, "prompt": prompts, "rollouts": rollouts, "shaped": shaped}
        info |= measures(rollouts, shaped)
        done = np.ones(self.num_envs, np.bool_)
        return self.task.observe(self._prompts), shaped.rewards, done, ~done, info

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture or text of all batches since the last seed, once per environment."""
        shown = rendered(self, lambda: drawn(self.task, f"batches of {self.num_envs}"))
        return None if shown is None else (shown,) * self.num_envs

    def state(self) -> dict[str, Any]:
        """Return everything that decides the next steps as JSON can hold it."""
        return {
            "seed": self._seed,
            "task": self.task.state(),
            "sampler": self.sampler.state(),
            "generator": self.np_random.bit_generator.state,
            "prompts": self._prompts.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> Observations:
        """Continue from what `state` returned; gives the observations to go on with."""
        self._start(state["seed"])
        self.task.restore(state["task"])
        self.sampler.restore(state["sampler"])
        self.np_random.bit_generator.state = state["generator"]
        self._prompts, self._begun = np.array(state["prompts"], np.int64), True
        return self.task.observe(self._prompts)

    def _draw(self) -> None:
        self._prompts = np.repeat(self.sampler.sample(self.num_envs // self.each), self.each)
