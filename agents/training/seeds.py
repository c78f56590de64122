"""Several runs at once: recipes, and seeds of each, in folders of their own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.training.algorithms import algorithms
from prunepolicy.agents.training.detached_runs import DetachedRuns, RunRequest
from prunepolicy.agents.training.experiment import Experiment
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.recipe_file import is_same_recipe
from prunepolicy.agents.training.run_folder import RECIPE, check_fresh, leaving_nothing, saved_step
from prunepolicy.agents.training.run_monitor import monitored, steps_done
from prunepolicy.agents.training.run_report import REPORT, Report, RunReport
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.progress import ProgressReporter


@dataclass(frozen=True)
class Seeds:
    """Which seeds to train a recipe with, in which folder.

    Attributes:
        recipe: its seed is the first of `count`.
        folder: of the run; where there are several, that of seed K is `seed-K` inside.
        resume: skip the seeds that are finished, and continue those that aren't.
    """

    recipe: RunRecipe
    folder: Path
    count: int = 1
    resume: bool = False

    def check_folder(self) -> None:
        """Raise `UsageError` when the folder holds something else, or its name can't be a policy's."""
        self.recipe.check_name(self.folder.name)
        if self.count > 1 and (self.folder / RECIPE).exists():
            raise UsageError(f"{self.folder} holds a run of one seed; choose another --out.")
        if not self.resume or (self.count > 1 and not any(self.folder.glob("seed-*"))):
            check_fresh(self.folder)

    def orders(self, progress: ProgressReporter) -> list[RunRequest]:
        """Return the runs that no earlier call has finished."""
        left = []
        for recipe in self._recipes:
            if self._is_finished(recipe):
                progress.note(f"{self._folder_of(recipe)}: finished before")
            else:
                left.append(RunRequest.of(recipe, self._folder_of(recipe)))
        return left

    def conclude(self) -> Report:
        """Return the run's report; of several, choose by the score that chooses steps, and sum up."""
        reports = [
            self._experiment_type.report_type.load(self._folder_of(recipe)) for recipe in self._recipes
        ]
        if self.count == 1:
            only: RunReport = reports[0]
            return only
        whole = self._experiment_type.summarise(self.folder, self.recipe, reports)
        whole.save(self.folder)
        return whole

    @property
    def _experiment_type(self) -> type[Experiment]:
        found: type[Experiment] = algorithms[self.recipe.algorithm].experiment_type
        return found

    @property
    def _recipes(self) -> list[RunRecipe]:
        seeds = range(self.recipe.seed, self.recipe.seed + self.count)
        return [self.recipe.model_copy(update={"seed": seed}) for seed in seeds]

    @property
    def folders(self) -> list[Path]:
        """Of every run."""
        return [self._folder_of(recipe) for recipe in self._recipes]

    def _folder_of(self, recipe: RunRecipe) -> Path:
        return self.folder if self.count == 1 else self.folder / f"seed-{recipe.seed}"

    def _is_finished(self, recipe: RunRecipe) -> bool:
        folder = self._folder_of(recipe)
        if not self.resume or not (folder / REPORT).is_file():
            return False
        report: RunReport = self._experiment_type.report_type.load(folder)
        return is_same_recipe(report.recipe, recipe)


def how_to_go_on(sets: Sequence[Seeds], command: str) -> str:
    """Return how far stopped runs have come, and the command that continues them; empty for none."""
    stopped = [
        f"{folder}: stopped at step {steps_done(folder)} of {one.recipe.max_steps}, {_saved(folder)}."
        for one in sets
        for folder in one.folders
        if folder.is_dir() and not (folder / REPORT).is_file()
    ]
    return " ".join([*stopped, f"Continue with: {command}"]) if stopped else ""


def _saved(folder: Path) -> str:
    step = saved_step(folder)
    return f"step {step} is saved" if step else "none is saved yet"


def train_detached(
    sets: Sequence[Seeds], progress: ProgressReporter, command: str = "", runner: Runner | None = None
) -> list[Report]:
    """Train every seed of every recipe, and return a report per recipe.

    Args:
        runner: trains runs apart from each other; in this process, one after the other, when None.

    Raises:
        UsageError: when two recipes want one folder, or one holds something else; nothing was trained then.
    """
    folders = [one.folder.resolve() for one in sets]
    for one in sets:
        if folders.count(one.folder.resolve()) > 1:
            raise UsageError(f"Two recipes would train in {one.folder}; give one of them another file name.")
        one.check_folder()
    with leaving_nothing([folder for one in sets for folder in one.folders]):
        orders = [order for one in sets for order in one.orders(progress)]
        runner = runner or LocalRunner()
        # In this process the runs say themselves how far they are.
        with nullcontext() if isinstance(runner, LocalRunner) else monitored(orders, progress):
            for order, _ in zip(orders, DetachedRuns(command, progress).reports(runner, orders), strict=True):
                progress.note(f"{order.folder}: finished")
    return [one.conclude() for one in sets]
