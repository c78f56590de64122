"""The registry of tasks: where problems come from, endlessly and without downloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from prunepolicy.pruning.registry import Registry


@dataclass(frozen=True)
class Problem:
    """One question.

    Attributes:
        steps: what one would write down on the way to the answer.
        difficulty: of this one item, in the task's own unit, such as its number of operations.
        entry: what the task's verifier needs beside the answer.
        verifier: what checks the answer; empty takes the task's.
    """

    task: str
    question: str
    answer: str
    difficulty: int
    steps: tuple[str, ...]
    entry: Mapping[str, Any] = field(default_factory=dict)
    verifier: str = ""


Make = Callable[[Random, int], Problem]


@dataclass(frozen=True)
class ProblemTask:
    """A source of problems.

    Attributes:
        levels: the difficulties it knows, the easiest first.
        make: a generator and a difficulty to a problem.
        verifier: what checks the answers.
    """

    levels: range
    make: Make
    verifier: str


tasks: Registry[ProblemTask] = Registry("task", "prunepolicy.agents.thinking.lm.tasks")


def task(name: str, levels: range, verifier: str = "integer") -> Callable[[Make], Make]:
    """Register the decorated function as the source of the task `name`."""

    def register(make: Make) -> Make:
        tasks.add(name, ProblemTask(levels, make, verifier))
        return make

    return register
