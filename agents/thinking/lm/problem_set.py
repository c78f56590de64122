"""Problems for training, validation and test: seeded, levels in turn, no held-out text trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar, Self

from pydantic import Field, model_validator

from prunepolicy.agents.thinking.lm.problem_file import Columns, read_problems
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


class ProblemsRecipe(Columns):
    """Problems for training and for evaluation, from tasks or from files.

    Attributes:
        tasks: where problems come from without end.
        file: JSON lines to train on instead.
        held_out_file: those that are held out; None takes them from `file`, and trains on the rest.
        train: problems that reinforcement learning draws from; of a file, at most.
        held_out: validation problems, which choose the best step, and as many test problems; none of them is
            trained on.
    """

    renamed: ClassVar[OldNames] = {"learn": "train"}
    tasks: tuple[TaskRecipe, ...] = ()
    file: Path | None = None
    held_out_file: Path | None = None
    train: int = Field(default=2000, ge=1)
    held_out: int = Field(default=160, ge=1)

    @model_validator(mode="after")
    def _source(self) -> Self:
        if bool(self.tasks) == (self.file is not None):
            raise ValueError("problems takes either tasks or a file")
        if self.held_out_file is not None and self.file is None:
            raise ValueError("problems.held_out_file goes with problems.file")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Files that problems are read from."""
        return tuple(str(file) for file in (self.file, self.held_out_file) if file is not None)

    def __str__(self) -> str:
        """Return where problems come from, for settings of an evaluation."""
        return ", ".join(self.files or map(str, self.tasks))


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
        """Draw all sets; held-out texts come once, and a level that has too few of them gives fewer.

        Raises:
            UsageError: when a file can't be read, or leaves nothing to train on or to hold out.
        """
        if recipe.file is not None:
            train, validation, test = _read(recipe.file, recipe, seed)
            return cls(train, validation, test, recipe)
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


def _read(file: Path, recipe: ProblemsRecipe, seed: int) -> tuple[tuple[Problem, ...], ...]:
    """Return the problems of files for training, validation and test."""
    train = read_problems(file, recipe)
    apart = None if recipe.held_out_file is None else read_problems(recipe.held_out_file, recipe)
    held_out = train if apart is None else apart
    chosen = Random(HELD_OUT_SEED).sample(held_out, min(2 * recipe.held_out, len(held_out)))
    middle = (len(chosen) + 1) // 2
    forbidden = {problem.question for problem in (chosen if apart is None else apart)}
    left = [problem for problem in train if problem.question not in forbidden]
    if not left or len(chosen) < 2:
        raise UsageError(
            f"{file} has {len(train)} problems; {len(chosen)} are held out and {len(left)} are left to train "
            "on: lower problems.held_out, or name a problems.held_out_file."
        )
    Random(seed).shuffle(left)
    return tuple(left[: recipe.train]), tuple(chosen[:middle]), tuple(chosen[middle:])


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
