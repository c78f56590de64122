"""Courses whose policies get cards with evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.learned_pruning.seeds_report import SeedsReport
from prunepolicy.agents.training.experiment import Experiment
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.run_folder import BEST, RunFolder
from prunepolicy.policy.load import load_policy_folder


class CardedExperiment(Experiment):
    """Its runs end with reports that compare."""

    @classmethod
    def summarise(cls, folder: Path, recipe: RunRecipe, reports: Sequence[Any]) -> SeedsReport[Any]:
        """Copy the chosen policy under the name of the whole, with the card over all seeds."""
        report: SeedsReport[Any] = cls.seeds_report_type(folder.name, str(folder), tuple(reports))
        policy = load_policy_folder(folder / f"seed-{report.chosen.recipe['seed']}" / BEST)
        RunFolder(folder, recipe).keep_policy(policy, BEST)
        write_policy_card(report.card, folder / BEST)
        return report
