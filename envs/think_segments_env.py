"""How long to think, as an environment: after every segment of thought, go on or answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.schedule import Stage
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import ANSWER, THINK
from prunepolicy.envs.thinking.task import FARTHEST, ThinkTask
from prunepolicy.pruning.errors import UsageError

Observation = NDArray[np.float32]
STOP, CONTINUE = 0, 1


class ThinkSegmentsEnv(gymnasium.Env[Observation, np.int64]):
    """Several steps: think one segment more, or stop and answer; only the answer is paid.

    Which length a whole trace would have is drawn at reset and not seen. Who stops after a share q of it is
    right with the probability p_answer + q (p_think - p_answer), an assumption of the simulator; whoever
    thinks to the end is right as thinking is.

    Observation:
        The prompt's features, the running share of thinking, and the segments thought of those allowed.

    Args:
        source: a simulated model; an invented one when None.
        segments: allowed at most; after the last one the answer is given.
        segment: tokens of each.
        stages: what is paid; batches have one rollout, see `ThinkEnv`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (declared by the base class)

    def __init__(
        self,
        source: SimulatedSource | None = None,
        segments: int = 8,
        segment: float = 256,
        stages: Sequence[Stage | Mapping[str, Any]] | None = None,
    ) -> None:
        if segments < 1 or not segment > 0:
            raise UsageError(f"Thought comes in segments of tokens; got {segments} of {segment}.")
        self.task = ThinkTask(source or SimulatedSource(), stages=stages)
        self.segments, self.segment = segments, segment
        shape = (self.task.features + 1,)
        self.observation_space: spaces.Space[Any] = spaces.Box(-FARTHEST, FARTHEST, shape, np.float32)
        self.action_space: spaces.Space[Any] = spaces.Discrete(2)
        self._accuracy = [self.task.source.expected(choice)[0] for choice in (ANSWER, THINK)]
        self._prompt, self._done, self._trace, self._answer = 0, 0, 1.0, 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a prompt and the lengths of its thought and its answer; `options` may fix `prompt`."""
        super().reset(seed=seed)
        if seed is not None:
            self.task.start()
        drawn = int(self.np_random.integers(len(self.task.source)))
        self._prompt, self._done = int((options or {}).get("prompt", drawn)), 0
        twice = np.array([self._prompt] * 2)
        _, lengths = self.task.source.draw(twice, np.array([True, False]), self.np_random)
        self._trace, self._answer = map(float, lengths)
        return self._observation(), {"prompt": self._prompt}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Think on, or answer; a trace that has come to its end answers by itself."""
        self._done += int(action) == CONTINUE
        thought = min(self._done * self.segment, self._trace)
        if int(action) == CONTINUE and self._done < self.segments and thought < self._trace:
            return self._observation(), 0.0, False, False, {}
        rollouts = self._ended(thought)
        shaped = self.task.schedule.step(rollouts)
        info = {"correct": bool(rollouts.correct[0]), "length": float(rollouts.length[0])}
        return self._observation(), float(shaped.rewards[0]), True, False, info

    def _ended(self, thought: float) -> Rollouts:
        """Return the rollout of whoever answers after `thought` tokens."""
        answer, think = (float(accuracy[self._prompt]) for accuracy in self._accuracy)
        chance = answer + thought / self._trace * (think - answer)
        return Rollouts.of(
            [self._prompt],
            [Mode.THINK if thought else Mode.ANSWER],
            [self.np_random.random() < chance],
            # A finished trace holds its answer.
            [thought + (self._answer if thought < self._trace else 0.0)],
            features=self.task.source.features[[self._prompt]],
        )

    def _observation(self) -> Observation:
        seen = self.task.observe(np.array([self._prompt]))[0]
        return np.append(seen, np.float32(self._done / self.segments))
