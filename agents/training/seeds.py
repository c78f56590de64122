"""Train with several seeds, each in a run folder of its own, and keep the best of what they learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.algorithms import algorithms
from prunepolicy.agents.cluster import LocalRunner, Runner
from prunepolicy.agents.progress import Steps
from prunepolicy.agents.training.course import Course
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.run_folder import RECIPE
from prunepolicy.agents.training.run_report import REPORT, Report, RunReport
from prunepolicy.agents.training.runs_apart import Order, RunsApart
from prunepolicy.pruning.errors import UsageError


@dataclass(frozen=True)
class Seeds:
    """Which seeds to train with, in which folder.

    Attributes:
        recipe: its seed is the first of `count`.
        folder: for all runs; that of seed K is `seed-K` inside.
        resume: skip the seeds that are finished, and continue the one that isn't.
    """

    recipe: RunRecipe
    folder: Path
    count: int
    resume: bool = False

    def train(self, steps: Steps, command: str = "", runner: Runner | None = None) -> Report:
        """Train with every seed, choose by the score that chooses steps, and report over all.

        Args:
            runner: trains seeds apart from each other; in this process, one after the other, when None.

        Raises:
            UsageError: when the folder holds something else.
        """
        self._check_folder()
        runs = {recipe.seed: self._finished(recipe, steps) for recipe in self._recipes}
        left = [recipe for recipe in self._recipes if runs[recipe.seed] is None]
        orders = [Order.of(recipe, self._folder_of(recipe)) for recipe in left]
        apart = RunsApart(command, steps)
        for recipe, report in zip(left, apart.reports(runner or LocalRunner(), orders), strict=True):
            runs[recipe.seed] = report
            steps.note(f"seed {recipe.seed}: finished")
        whole = self._course.summarise(self.folder, self.recipe, list(filter(None, runs.values())))
        whole.save(self.folder)
        return whole

    def _check_folder(self) -> None:
        self.recipe.check_name(self.folder.name)
        if (self.folder / RECIPE).exists():
            raise UsageError(f"{self.folder} holds a run of one seed; choose another --out.")
        if self.resume and any(self.folder.glob("seed-*")):
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError(
                f"{self.folder} is not empty. Add --resume to continue, or choose another --out."
            )

    @property
    def _course(self) -> type[Course]:
        return algorithms[self.recipe.algorithm].course_type()

    @property
    def _recipes(self) -> list[RunRecipe]:
        seeds = range(self.recipe.seed, self.recipe.seed + self.count)
        return [self.recipe.model_copy(update={"seed": seed}) for seed in seeds]

    def _folder_of(self, recipe: RunRecipe) -> Path:
        return self.folder / f"seed-{recipe.seed}"

    def _finished(self, recipe: RunRecipe, steps: Steps) -> RunReport | None:
        """Return the report of a seed that an earlier run has finished."""
        folder = self._folder_of(recipe)
        if not self.resume or not (folder / REPORT).is_file():
            return None
        report: RunReport = self._course.report_type.load(folder)
        if report.recipe != recipe.model_dump(mode="json"):
            return None
        steps.note(f"seed {recipe.seed}: finished before")
        return report
