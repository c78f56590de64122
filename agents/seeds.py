"""Train with several seeds, each in a run folder of its own, and keep the best policy of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.cluster import LocalRunner, Runner
from prunepolicy.agents.policy_card_text import write_policy_card
from prunepolicy.agents.progress import Steps
from prunepolicy.agents.recipe import Recipe
from prunepolicy.agents.run_folder import BEST, RECIPE, RunFolder
from prunepolicy.agents.runs_apart import Order, RunsApart
from prunepolicy.agents.seeds_report import SeedsReport
from prunepolicy.agents.train_report import REPORT, TrainReport
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.pruning.errors import UsageError


@dataclass(frozen=True)
class Seeds:
    """Which seeds to train with, in which folder.

    Attributes:
        recipe: its seed is the first of `count`.
        folder: for all runs; that of seed K is `seed-K` inside.
        resume: skip the seeds that are finished, and continue the one that isn't.
    """

    recipe: Recipe
    folder: Path
    count: int
    resume: bool = False

    def train(self, steps: Steps, command: str = "", runner: Runner | None = None) -> SeedsReport:
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
        whole = SeedsReport(self.folder.name, str(self.folder), tuple(filter(None, runs.values())))
        self._keep_best(whole)
        whole.save(self.folder)
        return whole

    def _check_folder(self) -> None:
        if self.folder.name in self.recipe.evaluation.baselines:
            raise UsageError(f"{self.folder.name!r} is a policy to compare with; choose another --out.")
        if (self.folder / RECIPE).exists():
            raise UsageError(f"{self.folder} holds a run of one seed; choose another --out.")
        if self.resume and any(self.folder.glob("seed-*")):
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError(
                f"{self.folder} is not empty. Add --resume to continue, or choose another --out."
            )

    @property
    def _recipes(self) -> list[Recipe]:
        seeds = range(self.recipe.seed, self.recipe.seed + self.count)
        return [self.recipe.model_copy(update={"seed": seed}) for seed in seeds]

    def _folder_of(self, recipe: Recipe) -> Path:
        return self.folder / f"seed-{recipe.seed}"

    def _finished(self, recipe: Recipe, steps: Steps) -> TrainReport | None:
        """Return the report of a seed that an earlier run has finished."""
        folder = self._folder_of(recipe)
        if not self.resume or not (folder / REPORT).is_file():
            return None
        report = TrainReport.load(folder)
        if report.recipe != recipe.model_dump(mode="json"):
            return None
        steps.note(f"seed {recipe.seed}: finished before")
        return report

    def _keep_best(self, report: SeedsReport) -> None:
        """Copy the chosen policy under the name of the whole, with the card over all seeds."""
        seed = report.chosen.recipe["seed"]
        policy = load_policy_folder(self.folder / f"seed-{seed}" / BEST)
        RunFolder(self.folder, self.recipe).keep_policy(policy, BEST)
        write_policy_card(report.card, self.folder / BEST)
