"""How long to think, as an environment: after every segment of thought, go on or answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from pydantic import Field

from prunepolicy.envs.drawing import ThinkDrawing
from prunepolicy.envs.episodes import Taken
from prunepolicy.envs.prompt_env import Observation, PromptEnv, observed
from prunepolicy.envs.settings import EnvSettings, checked
from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import ANSWER, THINK
from prunepolicy.envs.thinking.task import ThinkTask

STOP, CONTINUE = 0, 1


class ThinkSegmentsSettings(EnvSettings):
    """Settings of an environment of segments.

    Attributes:
        segments: allowed at most; after the last one the answer is given.
        segment: tokens of each.
        stages: what is paid; batches have one rollout, see `ThinkEnv`.
    """

    segments: int = Field(default=8, ge=1)
    segment: float = Field(default=256, gt=0, allow_inf_nan=False)
    stages: tuple[Any, ...] | None = None


class ThinkSegmentsEnv(PromptEnv):
    """Several steps: think one segment more, or stop and answer; only the answer is paid.

    Which length a whole trace would have is drawn at reset and not seen. Who stops after a share q of it is
    right with the probability p_answer + q (p_think - p_answer), an assumption of the simulator; whoever
    thinks to the end is right as thinking is.

    Observation:
        The prompt's features, the running share of thinking, and the segments thought of those allowed.

    Options of reset:
        prompt: which of the source's, a number from 0 on.

    Args:
        source: a simulated model; an invented one when None.
        render_mode: see `EpisodeEnv`.
        settings: those of `ThinkSegmentsSettings`.
    """

    def __init__(
        self, source: SimulatedSource | None = None, render_mode: str | None = None, **settings: Any
    ) -> None:
        self.settings = checked(ThinkSegmentsSettings, settings, "ThinkSegments")
        super().__init__(ThinkTask(source, stages=self.settings.stages), render_mode)
        self.observation_space: spaces.Space[Any] = observed(self.task, further=1)
        self.action_space: spaces.Space[Any] = spaces.Discrete(2)
        self._accuracy = [self.task.source.expected(choice)[0] for choice in (ANSWER, THINK)]
        self._done, self._trace, self._answer = 0, 1.0, 1.0

    def begin(self, options: Mapping[str, Any], anew: bool) -> tuple[Observation, dict[str, Any]]:
        """Draw a prompt and the lengths of its thought and its answer."""
        self._done = 0
        observation, info = super().begin(options, anew)
        _, lengths = self.task.source.draw(self.prompt.repeat(2), np.array([True, False]), self.np_random)
        self._trace, self._answer = map(float, lengths)
        return observation, info

    def take(self, action: np.int64) -> Taken[Observation]:
        """Think on, or answer; a trace that has come to its end answers by itself."""
        self._done += int(action) == CONTINUE
        thought = min(self._done * self.settings.segment, self._trace)
        if int(action) == CONTINUE and self._done < self.settings.segments and thought < self._trace:
            return self.observation(), 0.0, False, {}
        rollouts = self._ended(thought)
        return self.paid(rollouts, self.task.pay(self.prompt, rollouts))

    def observation(self) -> Observation:
        """Return the prompt's features, the running share of thinking, and how much was thought."""
        return np.append(super().observation(), np.float32(self._done / self.settings.segments))

    def drawing(self) -> ThinkDrawing:
        """Return the decisions since the last seed, and how far this one is."""
        drawing = super().drawing()
        return replace(drawing, title=f"{drawing.title}, {self._done} of {self.settings.segments} segments")

    def _ended(self, thought: float) -> Rollouts:
        """Return the rollout of whoever answers after `thought` tokens."""
        answer, think = (float(accuracy[self.prompt[0]]) for accuracy in self._accuracy)
        chance = answer + thought / self._trace * (think - answer)
        return Rollouts.of(
            self.prompt,
            [Mode.THINK if thought else Mode.ANSWER],
            [self.np_random.random() < chance],
            # A finished trace holds its answer.
            [thought + (self._answer if thought < self._trace else 0.0)],
            features=self.task.source.features[self.prompt],
        )
