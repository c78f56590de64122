"""The experiment of metanetworks: a family to learn from, a validation curve, and test networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import ClassVar, Self, cast

import torch

from prunepolicy.agents.images.task import ImageTask
from prunepolicy.agents.learned_pruning.carded_experiment import CardedExperiment
from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.learned_pruning.seeds_report import SeedsReport
from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.agents.metanet.family import Family
from prunepolicy.agents.metanet.held_out_eval import Trial
from prunepolicy.agents.metanet.learner import MetanetLearner
from prunepolicy.agents.metanet.recipe import MetanetRecipe
from prunepolicy.agents.metanet.report import WITH, WITHOUT, MetanetReport, plot_curves, scores_of
from prunepolicy.agents.metanet.rewriting import rewritten
from prunepolicy.agents.metanet.tradeoff_curve import Curve, Outcomes, curve_of, height, outcomes_of
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.stored import load_network
from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.training.experiment import EvalResult
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.run_folder import BEST, RunFolder, RunProgress, seed_generators
from prunepolicy.policy.kinds.metanet import Metanet
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.session.opened_model import Hardware

FAMILY, TARGETS, PICTURE = "family", "targets", "curve.png"


@dataclass
class MetanetExperiment(CardedExperiment):
    """Learns to make networks easier to prune, evaluated by their score right after the cut.

    Attributes:
        held_out: folders of networks that choose the best step.
        untouched: their score without a metanetwork.
    """

    report_type: ClassVar[type[MetanetReport]] = MetanetReport
    seeds_report_type: ClassVar[type[SeedsReport[MetanetReport]]] = SeedsReport
    run_folder: RunFolder
    recipe: MetanetRecipe
    learner: MetanetLearner
    task: LearningTask
    held_out: tuple[Path, ...]
    untouched: float
    progress: ProgressReporter

    @classmethod
    def prepare(
        cls, algorithm: type[SteppedLearner], run: RunFolder, progress: ProgressReporter, runner: Runner
    ) -> Self:
        """Train the family where it is missing, and open it.

        Seeding comes last: what was there before a run is not drawn again when it is resumed.
        """
        recipe = cast(MetanetRecipe, run.recipe)
        task = recipe.data.open(Hardware(recipe.device).torch_device)
        family = Family(recipe, recipe.family.folder or run.path / FAMILY)
        family.train(runner, progress)
        networks = [DataModel.opened(folder, task.device) for folder in family.learned]
        held_out = tuple(family.held_out)
        untouched = mean(height(_curve(recipe, task, folder, None)) for folder in held_out)
        seed_generators(recipe.seed)
        learner = cast(type[MetanetLearner], algorithm)(recipe, task, networks)
        return cls(run, recipe, learner, task, held_out, untouched, progress)

    def evaluate(self) -> EvalResult:
        """Return the mean score over cuts right after the cut, on networks nobody learned from."""
        curves = [_curve(self.recipe, self.task, folder, self.learner.policy) for folder in self.held_out]
        score = mean(height(curve) for curve in curves)
        speedups = self.recipe.evaluation.speedups
        row = {f"held_out/x{speedup:g}": mean(curve[speedup] for curve in curves) for speedup in speedups}
        sentence = f"{score:.4f} right after cuts, {self.untouched:.4f} without the metanetwork"
        return EvalResult(score, row, sentence)

    def save(self, name: str) -> None:
        """Save the policy under the run's name."""
        self.run_folder.keep_policy(self.learner.policy, name)

    def conclude(self, progress: RunProgress) -> MetanetReport:
        """Take networks that nobody has seen through the whole pipeline, with and without the metanetwork."""
        path = self.run_folder.path
        policy = cast(Metanet, load_policy_folder(path / BEST))
        trials = [
            Trial(self.recipe, self.task, policy, path / TARGETS / f"{number:02}", number, self.progress)
            for number in range(self.recipe.evaluation.test_networks)
        ]
        cuts = {
            WITHOUT: _outcomes(self.recipe, self.task, self.held_out[0], None),
            WITH: _outcomes(self.recipe, self.task, self.held_out[0], policy),
        }
        curves = {way: curve_of(outcomes) for way, outcomes in cuts.items()}
        ends = [end for trial in trials for end in trial.outcomes()]
        outcomes = [outcome for outcome, _ in ends]
        samples = {
            way: torch.stack([each for one, each in ends if one.way == way] or list(cuts[way].values()))
            for way in (WITH, WITHOUT)
        }
        criterion = self.recipe.pipeline.cut.criterion
        worst = 1.0 if isinstance(self.task, ImageTask) else 0.0
        best = progress.best or 0.0
        report = MetanetReport(
            policy.name,
            str(path),
            self.recipe.model_dump(mode="json"),
            progress.step,
            progress.best_step,
            scores_of(policy.name, criterion, worst, outcomes, curves),
            {"score right after cuts": best, "the same without the metanetwork": self.untouched},
            best,
            differences={criterion: self.task.difference(samples[WITH].mean(0), samples[WITHOUT].mean(0))},
            untouched=self.untouched,
            curves=curves,
            outcomes=outcomes,
        )
        plot_curves(curves, self.recipe.pipeline.cut.of, path / PICTURE)
        report.save(path)
        write_policy_card(report.card, path / BEST)
        return report


def _curve(recipe: MetanetRecipe, task: LearningTask, folder: Path, policy: Metanet | None) -> Curve:
    """Return the curve of a network, with a policy's help where there is one."""
    return curve_of(_outcomes(recipe, task, folder, policy))


def _outcomes(recipe: MetanetRecipe, task: LearningTask, folder: Path, policy: Metanet | None) -> Outcomes:
    """Return how a network does on every validation sample after every cut."""
    if policy is not None and policy.rewrites:
        model = rewritten(policy, folder, task.device)
    else:
        model = load_network(folder)
    model = remeasure_norms(model.to(task.device), task)
    return outcomes_of(model, task, recipe.pipeline, recipe.evaluation.speedups, policy=policy)
