"""Evaluation on held-out problems: accuracy, tokens and think rate, by difficulty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prunepolicy.agents.thinking.lm.engines import Sampling
from prunepolicy.agents.thinking.lm.engines.registry import Force
from prunepolicy.agents.thinking.lm.rollout_batch import Group, RolloutWorker, seed_of
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.envs.thinking.rollouts import Rollouts
from prunepolicy.pruning.measure.intervals import Interval, around

Think = Literal["auto", "always", "never"]
FORCED: dict[Think, Force] = {"auto": "free", "always": "think", "never": "answer"}
EVAL_SEED = 104_729


@dataclass(frozen=True)
class DifficultyLevel:
    """Answers to problems of one difficulty."""

    difficulty: int
    answers: int
    accuracy: float
    tokens: float
    think: float


@dataclass(frozen=True)
class ThinkEval:
    """Answers to all problems.

    Attributes:
        tokens: of a completion, the mean.
        think: share of completions with a reasoning trace.
        cut_off: share of completions that were too long.
        bins: by difficulty, the easiest first.
        tokens_error: standard error of `tokens`; None where it isn't known.
    """

    accuracy: float
    tokens: float
    think: float
    cut_off: float
    bins: tuple[DifficultyLevel, ...]
    tokens_error: float | None = None

    @property
    def answers(self) -> int:
        """How many there were."""
        return sum(one.answers for one in self.bins)

    def more_right_than(self, other: ThinkEval) -> Interval:
        """Return the interval of the difference in accuracy, as if the problems had been different ones."""
        errors = [each.accuracy * (1 - each.accuracy) / each.answers for each in (self, other)]
        return around(self.accuracy - other.accuracy, math.sqrt(sum(errors)))

    def longer_than(self, other: ThinkEval) -> Interval | None:
        """Return that of the difference in tokens; None where an error isn't known."""
        if self.tokens_error is None or other.tokens_error is None:
            return None
        return around(self.tokens - other.tokens, math.hypot(self.tokens_error, other.tokens_error))

    @property
    def think_slope(self) -> float:
        """Think rate on the hardest third of the difficulties less that on the easiest third."""
        third = max(1, len(self.bins) // 3)
        rates = [one.think for one in self.bins]
        return float(np.mean(rates[-third:]) - np.mean(rates[:third]))


@dataclass(frozen=True)
class ThinkEvaluator:
    """Samples completions of every problem.

    Attributes:
        samples: answers per problem; one is enough for greedy decoding.
    """

    problems: Sequence[Problem]
    samples: int = 1

    def evaluate(self, rollout_worker: RolloutWorker, sampling: Sampling, think: Think = "auto") -> ThinkEval:
        """Return accuracy, tokens and think rate with the mode chosen by the model, or forced."""
        groups = [
            Group(problem, number, self.samples, seed_of(EVAL_SEED, number), FORCED[think])
            for number, problem in enumerate(self.problems)
        ]
        batch = rollout_worker.roll(groups, sampling)
        cut_off = float((~batch.written.ended).float().mean())
        return summarise(batch.table, cut_off)


def summarise(table: Rollouts, cut_off: float = 0.0) -> ThinkEval:
    """Return the summary of a table whose first feature is the difficulty."""
    difficulty = table.features[:, 0].astype(int)
    bins = tuple(_bin(level, table.where(difficulty == level)) for level in np.unique(difficulty).tolist())
    whole = _bin(0, table)
    error = float(table.length.std(ddof=1)) / math.sqrt(len(table)) if len(table) > 1 else None
    return ThinkEval(whole.accuracy, whole.tokens, whole.think, cut_off, bins, error)


def _bin(level: int, table: Rollouts) -> DifficultyLevel:
    rates = (table.correct.mean(), table.length.mean(), table.thinks.mean())
    return DifficultyLevel(level, len(table), *(round(float(rate), 6) for rate in rates))
