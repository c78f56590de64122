"""Train with several seeds, each in a run folder of its own, and keep the best of what they learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.algorithms import algorithms
from prunepolicy.agents.course import Report, RunReport
from prunepolicy.agents.progress import Steps
from prunepolicy.agents.recipe import RunRecipe
from prunepolicy.agents.run_folder import RECIPE
from prunepolicy.agents.train import train
from prunepolicy.agents.train_report import REPORT
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

    def train(self, steps: Steps, command: str = "") -> Report:
        """Train with every seed, choose by the score that chooses steps, and report over all.

        Raises:
            UsageError: when the folder holds something else.
        """
        self._check_folder()
        seeds = range(self.recipe.seed, self.recipe.seed + self.count)
        reports = [self._run(seed, steps, command) for seed in seeds]
        course = algorithms[self.recipe.algorithm].course_type()
        report = course.summarise(self.folder, self.recipe, reports)
        report.save(self.folder)
        return report

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

    def _run(self, seed: int, steps: Steps, command: str) -> RunReport:
        folder = self.folder / f"seed-{seed}"
        recipe = self.recipe.model_copy(update={"seed": seed})
        if self.resume and (folder / REPORT).is_file():
            report: RunReport = algorithms[recipe.algorithm].course_type().report_type.load(folder)
            if report.recipe == recipe.model_dump(mode="json"):
                steps.note(f"seed {seed}: finished before")
                return report
        steps.note(f"seed {seed}")
        return train(recipe, folder, self.resume, steps, command)
