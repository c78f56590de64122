"""The gain of thinking: accuracies with the mode forced, on easy and on hard problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunepolicy.agents.thinking.lm.engines import Sampling
from prunepolicy.agents.thinking.lm.engines.registry import Force
from prunepolicy.agents.thinking.lm.rollout_batch import Group, RolloutWorker
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.envs.thinking.rollouts import Rollouts


@dataclass(frozen=True)
class Gap:
    """By how much thinking is ahead of answering at once, in accuracy.

    Attributes:
        easy: on the easiest third of the problems; `hard` on the hardest.
        thinking: accuracy of thinking on the hardest third.
    """

    easy: float
    hard: float
    thinking: float

    def metrics(self) -> dict[str, float]:
        """Return what is logged."""
        return {"gap_easy": self.easy, "gap_hard": self.hard, "hard_thinking": self.thinking}


def forced(
    rollout_worker: RolloutWorker, problems: Sequence[Problem], sampling: Sampling, mode: Force
) -> Rollouts:
    """Return outcomes of greedy completions with the mode forced, one row per problem."""
    groups = [Group(problem, number, force=mode) for number, problem in enumerate(problems)]
    return rollout_worker.roll(groups, sampling).table


def measured_gap(rollout_worker: RolloutWorker, problems: Sequence[Problem], sampling: Sampling) -> Gap:
    """Measure the gap on the easiest and the hardest third of some problems."""
    ordered = sorted(problems, key=lambda problem: problem.difficulty)
    third = max(1, len(ordered) // 3)
    chosen = [*ordered[:third], *ordered[-third:]]
    thinking, answering = (
        np.asarray(forced(rollout_worker, chosen, sampling, mode).correct, dtype=np.float64)
        for mode in ("think", "answer")
    )
    ahead = thinking - answering
    return Gap(float(ahead[:third].mean()), float(ahead[third:].mean()), float(thinking[third:].mean()))
