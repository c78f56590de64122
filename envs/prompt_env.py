"""What single environments of thinking share: an episode is about one prompt, and its answer is paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prunepolicy.envs.drawing import ThinkDrawing
from prunepolicy.envs.episodes import EpisodeEnv, Taken, indexed
from prunepolicy.envs.thinking.rollouts import Rollouts
from prunepolicy.envs.thinking.schedule import ShapedBatch
from prunepolicy.envs.thinking.source import Prompts
from prunepolicy.envs.thinking.task import FARTHEST, Batch, ThinkTask

Observation = NDArray[np.float32]
MEASURED = ("correct", "length", "mode", "budget")
"""Columns of rollouts that infos hold."""


class PromptEnv(EpisodeEnv[Observation, np.int64]):
    """Draws prompts; what is remembered between episodes begins anew with a seed.

    Attributes:
        task: prompts, ways to meet them, and what is paid.
        prompt: the one that this episode is about, as a batch of one.
    """

    known_options: ClassVar[tuple[str, ...]] = ("prompt",)

    def __init__(self, task: ThinkTask, render_mode: str | None) -> None:
        super().__init__(render_mode)
        self.task = task
        self.prompt: Prompts = np.zeros(1, np.int64)

    def begin(self, options: Mapping[str, Any], anew: bool) -> tuple[Observation, dict[str, Any]]:
        """Draw a prompt."""
        if anew:
            self.task.start()
        count = len(self.task.source)
        drawn = int(self.np_random.integers(count))
        self.prompt = np.array([indexed(options, "prompt", drawn, count)])
        return self.observation(), {"prompt": int(self.prompt[0])}

    def observation(self) -> Observation:
        """Return the prompt's features, and the running share of thinking."""
        seen: Observation = self.task.observe(self.prompt)[0]
        return seen

    def paid(self, rollouts: Rollouts, shaped: ShapedBatch) -> Taken[Observation]:
        """Return the end of an episode, whose batch is one rollout."""
        measured = measures(rollouts, shaped)
        row = {kind: {name: column[0].item() for name, column in measured[kind].items()} for kind in measured}
        info = {"correct": row["measured"]["correct"], "length": row["measured"]["length"], **row}
        return self.observation(), float(shaped.rewards[0]), True, info

    def drawing(self) -> ThinkDrawing:
        """Return the decisions since the last seed."""
        prompt = int(self.prompt[0])
        return drawn(self.task, f"prompt {prompt}, difficulty {self.task.source.difficulty[prompt]:.2f}")


def observed(task: ThinkTask, further: int = 0) -> spaces.Box:
    """Return the space of one observation of `task`, with `further` numbers behind it."""
    return spaces.Box(-FARTHEST, FARTHEST, (task.features + further,), np.float32)


def measures(rollouts: Rollouts, shaped: ShapedBatch) -> dict[str, dict[str, NDArray[Any]]]:
    """Return what a batch's rewards were made of, an array per column: `measured`, and `terms`."""
    columns = {name: getattr(rollouts, name) for name in MEASURED}
    return {"measured": columns, "terms": dict(shaped.components)}


def drawn(task: ThinkTask, title: str) -> ThinkDrawing:
    """Return what `task` remembers of its batches as it can be shown."""
    past = task.past or [Batch.empty()]
    columns = ([getattr(batch, column.name) for batch in past] for column in fields(Batch))
    return ThinkDrawing(title, *map(np.concatenate, columns))
