"""The experiment of pruning policies: training and evaluation models, heuristics to beat, a card."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar, Self, cast

from prunepolicy.agents.learned_pruning.carded_experiment import CardedExperiment
from prunepolicy.agents.learned_pruning.evaluator import (
    Evaluator,
    Windows,
    check_text_model,
    difference,
    mean,
    place_of,
    scores_of,
)
from prunepolicy.agents.learned_pruning.keep_tracker import KEPT, MOVED, KeepTracker, history
from prunepolicy.agents.learned_pruning.learner import Assignment, Learner
from prunepolicy.agents.learned_pruning.learning_page import excess_of, rewards_of, write_learning_page
from prunepolicy.agents.learned_pruning.learning_plots import KeptHistory, plot_kept, plot_learning
from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.agents.learned_pruning.seeds_report import SeedsReport
from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.training.experiment import EvalResult
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.agents.training.run_folder import BEST, RunFolder, RunProgress, seed_generators
from prunepolicy.policy.base import Policy
from prunepolicy.policy.load import load_policy, load_policy_folder
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware

CURVE = "learning.png"
KEPT_PICTURE = "kept.png"
UNLEARNED = "before learning"


@dataclass
class PruningExperiment(CardedExperiment):
    """Learns a policy, and evaluators it by what pruned models still predict."""

    report_type: ClassVar[type[TrainReport]] = TrainReport
    seeds_report_type: ClassVar[type[SeedsReport[TrainReport]]] = SeedsReport
    run_folder: RunFolder
    recipe: Recipe
    learner: Learner
    evaluators: Evaluator
    tracker: KeepTracker
    progress: ProgressReporter
    unlearned: Policy

    @classmethod
    def prepare(
        cls, algorithm: type[SteppedLearner], run: RunFolder, progress: ProgressReporter, runner: Runner
    ) -> Self:
        """Open the models, and make the learner."""
        recipe = cast(Recipe, run.recipe)
        hardware = Hardware(recipe.device, recipe.dtype)
        sessions = {
            name: ModelSession(name, Checkpoint.open(resolve(name)), hardware, progress)
            for name in (*recipe.models, *recipe.held_out)
        }
        check_plannable(recipe, sessions)
        evaluated = tuple(sessions[name] for name in recipe.held_out or recipe.models)
        assignment = Assignment(
            recipe, tuple(sessions[name] for name in recipe.models), progress, runner=runner
        )
        evaluator = Evaluator(
            evaluated,
            recipe.every_budget,
            recipe.evaluation,
            recipe.seed,
            collected=assignment.collected,
            runner=runner,
        )
        seed_generators(recipe.seed)
        learner = cast(type[Learner], algorithm)(assignment)
        tracker = KeepTracker(evaluator, recipe.evaluation.baselines)
        return cls(run, recipe, learner, evaluator, tracker, progress, deepcopy(learner.policy))

    def evaluate(self) -> EvalResult:
        """Return the excess log-perplexity on the evaluation models, and what was kept of every layer."""
        scores = self.evaluators.scores(self.learner.policy)
        excess = mean(scores)
        row = {f"held_out/{name}": value for name, value in scores.items()}
        sentence = f"excess log-perplexity {excess:.4f} nats per token"
        return EvalResult(-excess, {**row, **self.tracker.row(self.learner.policy)}, sentence)

    def save(self, name: str) -> None:
        """Save the policy under the run's name."""
        self.run_folder.keep_policy(self.learner.policy, name)

    def conclude(self, progress: RunProgress) -> TrainReport:
        """Compare the best policy with the baselines, and write pictures, report, card and page."""
        policy = load_policy_folder(self.run_folder.path / BEST)
        evaluator, windows = self.evaluators.for_the_end(), dict[str, Windows]()
        rivals = {name: load_policy(name) for name in self.recipe.evaluation.baselines}
        compared = {policy.name: policy, **rivals}
        with self.progress.step("compare on other text: " + ", ".join(compared), len(compared)) as tick:
            for name, one in compared.items():
                windows[name] = evaluator.windows(one)
                tick(1)
        scores = {name: scores_of(found) for name, found in windows.items()}
        report = TrainReport(
            policy.name,
            str(self.run_folder.path),
            self.recipe.model_dump(mode="json"),
            progress.step,
            progress.best_step,
            scores,
            self.learner.evidence(),
            progress.best if progress.best is not None else -mean(scores[policy.name]),
            {session.name: session.checkpoint.fingerprint for session in self.evaluators.sessions},
            {name: difference(windows[policy.name], windows[name]) for name in rivals},
            self._to_beat(rivals),
        )
        _draw(self.run_folder, self.tracker, progress, report.to_beat)
        report.save(self.run_folder.path)
        write_learning_page(report, self.run_folder)
        write_policy_card(report.card, self.run_folder.path / BEST)
        return report

    def _to_beat(self, rivals: Mapping[str, Policy]) -> dict[str, float]:
        """Return what the learning curve has to be compared with, on the text that it was drawn on."""
        with self.progress.step("evaluate what has to be beaten"):
            scores = {name: mean(self.evaluators.scores(policy)) for name, policy in rivals.items()}
            unlearned = {UNLEARNED: mean(self.evaluators.scores(self.unlearned))}
        best = min(scores, key=scores.__getitem__, default=None)
        return unlearned if best is None else {**unlearned, f"best heuristic, {best}": scores[best]}


def check_plannable(recipe: Recipe, sessions: Mapping[str, ModelSession]) -> None:
    """Raise what would end a run later, as far as its recipe and the models' configurations say it.

    Raises:
        UsageError: when a policy can't plan for a budget, a model can't evaluate it, or text is missing.
        BudgetError: when a model can't reach one of the budgets.
    """
    if recipe.evaluation.text is not None:
        read_text(recipe.evaluation.text)
    for name in recipe.held_out or recipe.models:
        check_text_model(sessions[name])
    rivals = [load_policy(name) for name in recipe.evaluation.baselines]
    for session, budget in product(sessions.values(), recipe.every_budget):
        for policy in (recipe.beginner(), *rivals):
            _check_plan(policy, session, budget)


def _check_plan(policy: Policy, session: ModelSession, budget: Budget) -> None:
    if budget.of == "latency":
        return  # What a width costs in seconds has to be measured.
    try:
        policy.check(session.checkpoint.graph, budget)
    except UsageError as error:
        raise type(error)(f"{session.name}, by {policy.name}: {error}") from error


def _draw(run: RunFolder, tracker: KeepTracker, progress: RunProgress, to_beat: Mapping[str, float]) -> None:
    """Draw the learning curve, and what was kept of every layer."""
    rows = run.rows()
    plot_learning(rewards_of(rows), excess_of(rows), to_beat, run.path / CURVE)
    if tracker.budget.uniform:
        shares, title = history(rows, MOVED), f"Units kept that {tracker.rival_name} would have removed"
        scale = "share of the kept units"
    else:
        shares, title, scale = history(rows, KEPT), "Units kept", "share of all units"
    where = Path(place_of(tracker.session, tracker.budget)).name
    kept = KeptHistory(tracker.graph, shares, progress.best_step, title, where, scale)
    plot_kept(kept, run.path / KEPT_PICTURE)
