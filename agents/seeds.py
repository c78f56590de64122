"""Train with several seeds, each in a run folder of its own, and keep the best policy of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.policy_card_text import write_policy_card
from prunepolicy.agents.progress import Steps
from prunepolicy.agents.recipe import Recipe
from prunepolicy.agents.run_folder import BEST, RECIPE, RunFolder
from prunepolicy.agents.seeds_report import SeedsReport
from prunepolicy.agents.train import train
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

    def train(self, steps: Steps, command: str = "") -> SeedsReport:
        """Train with every seed, choose by the score that chooses steps, and report over all.

        Raises:
            UsageError: when the folder holds something else.
        """
        self._check_folder()
        seeds = range(self.recipe.seed, self.recipe.seed + self.count)
        report = SeedsReport(
            self.folder.name, str(self.folder), tuple(self._run(seed, steps, command) for seed in seeds)
        )
        self._keep_best(report)
        report.save(self.folder)
        return report

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

    def _run(self, seed: int, steps: Steps, command: str) -> TrainReport:
        folder = self.folder / f"seed-{seed}"
        recipe = self.recipe.model_copy(update={"seed": seed})
        if self.resume and (folder / REPORT).is_file():
            report = TrainReport.load(folder)
            if report.recipe == recipe.model_dump(mode="json"):
                steps.note(f"seed {seed}: finished before")
                return report
        steps.note(f"seed {seed}")
        return train(recipe, folder, self.resume, steps, command)

    def _keep_best(self, report: SeedsReport) -> None:
        """Copy the chosen policy under the name of the whole, with the card over all seeds."""
        seed = report.chosen.recipe["seed"]
        policy = load_policy_folder(self.folder / f"seed-{seed}" / BEST)
        RunFolder(self.folder, self.recipe).keep_policy(policy, BEST)
        write_policy_card(report.card, self.folder / BEST)
