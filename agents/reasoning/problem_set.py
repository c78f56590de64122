"""Problems to learn on and problems held out: seeded, balanced over difficulty, no text twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from pydantic import Field

from prunepolicy.agents.reasoning.tasks import Problem, tasks
from prunepolicy.agents.training.recipe import RecipePart
from prunepolicy.pruning.errors import UsageError

TRIES = 20
HELD_OUT_SEED = 7_919
"""Apart from every seed of a run, so that all runs are judged on the same problems."""


class TaskRecipe(RecipePart):
    """One task, and how hard.

    Attributes:
        levels: the lowest and the highest difficulty; None takes all that the task knows.
    """

    task: str
    levels: tuple[int, int] | None = None

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


class ProblemsRecipe(RecipePart):
    """What to learn on and what to judge with.

    Attributes:
        learn: problems that reinforcement learning draws from.
        held_out: problems that choose the best step, and as many others that say what it came to; none
            of them is learned on.
    """

    tasks: tuple[TaskRecipe, ...] = Field(min_length=1)
    learn: int = Field(default=2000, ge=1)
    held_out: int = Field(default=160, ge=1)


@dataclass(frozen=True)
class ProblemSet:
    """Problems without repetition.

    Attributes:
        learn: to learn on.
        choose: to choose the best step with.
        judge: to say what it came to; nothing is chosen on them.
    """

    learn: tuple[Problem, ...]
    choose: tuple[Problem, ...]
    judge: tuple[Problem, ...]
    recipe: ProblemsRecipe

    @classmethod
    def drawn(cls, recipe: ProblemsRecipe, seed: int) -> ProblemSet:
        """Draw all sets; where a level has few problems, it gives fewer."""
        seen: set[str] = set()
        judging = Random(HELD_OUT_SEED)
        choose, judge = (tuple(_distinct(recipe.tasks, recipe.held_out, judging, seen)) for _ in range(2))
        learn = tuple(_distinct(recipe.tasks, recipe.learn, Random(seed), seen))
        return cls(learn, choose, judge, recipe)

    def fresh(self, generator: Random) -> Iterator[Problem]:
        """Yield problems to demonstrate, without end; held-out ones never."""
        forbidden = {problem.question for problem in (*self.choose, *self.judge)}
        places = _places(self.recipe.tasks)
        while True:
            name, level = generator.choice(places)
            problem = tasks[name].make(generator, level)
            if problem.question not in forbidden:
                yield problem


def _distinct(
    chosen: Sequence[TaskRecipe], count: int, generator: Random, seen: set[str]
) -> Iterator[Problem]:
    """Yield problems with new questions, the levels in turn; an exhausted level is passed over."""
    places = _places(chosen)
    for number in range(count):
        name, level = places[number % len(places)]
        for _ in range(TRIES):
            problem = tasks[name].make(generator, level)
            if problem.question not in seen:
                seen.add(problem.question)
                yield problem
                break


def _places(chosen: Sequence[TaskRecipe]) -> list[tuple[str, int]]:
    return [(one.task, level) for one in chosen for level in one.range()]
