"""Problems for training, validation and test: seeded, levels in turn, no held-out text trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from pydantic import Field

from prunepolicy.agents.thinking.lm.tasks import Problem, tasks
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import OldNames, StrictConfig

TRIES = 20
HELD_OUT_SEED = 7_919
"""Apart from every seed of a run, so that all runs are evaluated on the same problems."""


class TaskRecipe(StrictConfig):
    """One task, and how hard.

    Attributes:
        levels: the lowest and the highest difficulty; None takes all that the task knows.
        weight: how often each of these levels comes up, beside those of other tasks.
    """

    task: str
    levels: tuple[int, int] | None = None
    weight: int = Field(default=1, ge=1)

    def __str__(self) -> str:
        """Return it as `eval --tasks` takes it, with its weight where that isn't 1."""
        levels = "" if self.levels is None else f":{self.levels[0]}-{self.levels[1]}"
        return f"{self.task}{levels}" + (f" (x{self.weight})" if self.weight > 1 else "")

    def range(self) -> range:
        """Return the difficulties.

        Raises:
            UsageError: when the task doesn't have them.
        """
        known = tasks[self.task].levels
        if self.levels is None:
            return known
        low, high = self.levels
        if low not in known or high not in known or low > high:
            raise UsageError(
                f"{self.task} has the difficulties {known.start} to {known.stop - 1}; got {low} to {high}."
            )
        return range(low, high + 1)


class ProblemsRecipe(StrictConfig):
    """Problems for training and for evaluation.

    Attributes:
        train: problems that reinforcement learning draws from.
        held_out: validation problems, which choose the best step, and as many test problems; none of them is
            trained on.
    """

    renamed: ClassVar[OldNames] = {"learn": "train"}
    tasks: tuple[TaskRecipe, ...] = Field(min_length=1)
    train: int = Field(default=2000, ge=1)
    held_out: int = Field(default=160, ge=1)


@dataclass(frozen=True)
class ProblemSet:
    """Problems, the levels in turn.

    Attributes:
        train: for training; where a level has few texts they come again, so that it keeps its share.
        validation: choose the best step.
        test: evaluate it in the end; nothing is chosen on them.
    """

    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]
    test: tuple[Problem, ...]
    recipe: ProblemsRecipe

    @classmethod
    def draw(cls, recipe: ProblemsRecipe, seed: int) -> ProblemSet:
        """Draw all sets; held-out texts come once, and a level that has too few of them gives fewer."""
        held_out: set[str] = set()
        generator = Random(HELD_OUT_SEED)
        validation, test = (
            tuple(_drawn(recipe.tasks, recipe.held_out, generator, held_out, once=True)) for _ in range(2)
        )
        return cls(
            tuple(_drawn(recipe.tasks, recipe.train, Random(seed), held_out)), validation, test, recipe
        )

    def fresh(self, generator: Random) -> Iterator[Problem]:
        """Yield problems to demonstrate, without end; held-out ones never."""
        forbidden = {problem.question for problem in (*self.validation, *self.test)}
        places = _places(self.recipe.tasks)
        while True:
            yield from _unseen(generator.choice(places), generator, forbidden)


def _drawn(
    chosen: Sequence[TaskRecipe], count: int, generator: Random, seen: set[str], *, once: bool = False
) -> Iterator[Problem]:
    """Yield problems whose questions weren't seen, the levels in turn; an exhausted level is passed over.

    Args:
        once: add the questions to those seen.
    """
    places = _places(chosen)
    for number in range(count):
        for problem in _unseen(places[number % len(places)], generator, seen):
            if once:
                seen.add(problem.question)
            yield problem


def _unseen(place: tuple[str, int], generator: Random, seen: set[str]) -> Iterator[Problem]:
    """Yield one problem of a task and a level whose question wasn't seen, or none where all seem to be."""
    name, level = place
    for _ in range(TRIES):
        problem = tasks[name].make(generator, level)
        if problem.question not in seen:
            yield problem
            return


def _places(chosen: Sequence[TaskRecipe]) -> list[tuple[str, int]]:
    return [(one.task, level) for one in chosen for level in one.range() for _ in range(one.weight)]
