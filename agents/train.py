"""Train a policy: recipe in, run folder out, with the best policy, its evidence and its card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from prunepolicy.agents.algorithms import Assignment, Learner, algorithms
from prunepolicy.agents.cluster import LocalRunner, Runner
from prunepolicy.agents.judge import Judge, Scores, mean, place_of
from prunepolicy.agents.kept import KEPT, MOVED, KeptWatch, history
from prunepolicy.agents.learning_plots import KeptHistory, plot_kept, plot_learning
from prunepolicy.agents.opened_model import Hardware
from prunepolicy.agents.policy_card_text import write_policy_card
from prunepolicy.agents.progress import Steps
from prunepolicy.agents.recipe import Recipe
from prunepolicy.agents.run_folder import BEST, LAST, Progress, RunFolder, seed_generators
from prunepolicy.agents.subject import Subject
from prunepolicy.agents.train_report import TrainReport
from prunepolicy.policy.load import load_policy, load_policy_folder
from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.source import resolve

SCORE = "held_out/score"
CURVE = "learning.png"
KEPT_PICTURE = "kept.png"


def train(
    recipe: Recipe,
    folder: Path,
    resume: bool = False,
    steps: Steps | None = None,
    command: str = "",
    runner: Runner | None = None,
) -> TrainReport:
    """Learn what `recipe` says in `folder`, and compare the result with the heuristics.

    Args:
        folder: for the run; must be empty or absent unless `resume`.
        resume: continue from the last checkpoint; on a CPU the result is the same bit by bit as
            without the interruption.
        runner: plays episodes and measures plans; in this process when None, with the same result.

    Raises:
        PrunePolicyError: when something learned is no number any more, or the recipe is wrong.
    """
    steps, runner = steps or Steps(), runner or LocalRunner()
    if folder.name in recipe.evaluation.baselines:
        raise UsageError(f"A run can't be called {folder.name!r}, like a policy that it is compared with.")
    algorithm = algorithms[recipe.algorithm]
    opened = RunFolder.reopen if resume else RunFolder.start
    run = opened(folder, recipe, command)
    hardware = Hardware(recipe.device, recipe.dtype)
    subjects = {
        name: Subject(name, Checkpoint.open(resolve(name)), hardware, steps)
        for name in (*recipe.models, *recipe.held_out)
    }
    judges = tuple(subjects[name] for name in recipe.held_out or recipe.models)
    assignment = Assignment(recipe, tuple(subjects[name] for name in recipe.models), steps, runner=runner)
    judge = Judge(
        judges,
        recipe.every_budget,
        recipe.evaluation,
        recipe.seed,
        collected=assignment.collected,
        runner=runner,
    )
    seed_generators(recipe.seed)
    learner = algorithm(assignment)
    progress, state = run.latest()
    if progress.step:
        learner.restore(state)
    watch = KeptWatch(judge, recipe.evaluation.baselines)
    progress = _Training(run, learner, judge, watch, steps).run(progress)
    _draw(run, watch, progress)
    return _conclude(run, learner, judge.for_the_end(), progress)


@dataclass
class _Training:
    run_folder: RunFolder
    learner: Learner
    judge: Judge
    watch: KeptWatch
    steps: Steps

    def run(self, progress: Progress) -> Progress:
        """Step, log, evaluate and save until the recipe's last step, or until nothing improves."""
        recipe = self.run_folder.recipe
        left = recipe.episodes - progress.step
        self.run_folder.open_events(progress.step)
        try:
            with self.steps.step("learn", left) as tick:
                while progress.step < recipe.episodes and not self._is_stale(progress):
                    progress = self._advance(progress)
                    tick(1)
        finally:
            self.run_folder.close()
        return progress

    def _advance(self, progress: Progress) -> Progress:
        recipe, step = self.run_folder.recipe, progress.step + 1
        metrics = self.learner.step()
        check_finite(metrics, step)
        self.run_folder.log(step, metrics)
        progress = replace(progress, step=step)
        last = step == recipe.episodes
        if last or step % recipe.evaluation.every == 0:
            progress = self._evaluate(progress)
        if last or step % recipe.checkpoint_every == 0 or self._is_stale(progress):
            self.run_folder.keep_policy(self.learner.policy, LAST)
            self.run_folder.checkpoint(progress, self.learner.state())
        return progress

    def _evaluate(self, progress: Progress) -> Progress:
        scores = self.judge.scores(self.learner.policy)
        check_finite(scores, progress.step)
        score = -mean(scores)
        row = {f"held_out/{name}": value for name, value in scores.items()}
        self.run_folder.log(progress.step, {SCORE: score, **row, **self.watch.row(self.learner.policy)})
        self.steps.note(f"  step {progress.step}: excess log-perplexity {-score:.4f} nats per token")
        if progress.best is not None and score <= progress.best:
            return replace(progress, stale=progress.stale + 1)
        self.run_folder.keep_policy(self.learner.policy, BEST)
        return replace(progress, best=score, best_step=progress.step, stale=0)

    def _is_stale(self, progress: Progress) -> bool:
        patience = self.run_folder.recipe.evaluation.patience
        return patience is not None and progress.stale >= patience


def check_finite(metrics: Mapping[str, float], step: int) -> None:
    """Raise `PrunePolicyError` when a metric is no number.

    The last checkpoint stays as it was.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise PrunePolicyError(
                f"Training broke at step {step}: {name} is {value}. The last checkpoint is untouched; "
                "lower the learning rate (--set learner.learning_rate=...) and start again."
            )


def _draw(run: RunFolder, watch: KeptWatch, progress: Progress) -> None:
    """Draw the learning curve, and what was kept of every layer."""
    rows = run.rows()
    curve = [(int(row["step"]), row["reward"]) for row in rows if "reward" in row]
    judged = [(int(row["step"]), -row[SCORE]) for row in rows if SCORE in row]
    plot_learning(curve, judged, run.path / CURVE)
    if watch.budget.uniform:
        shares, title = history(rows, MOVED), f"Units kept that {watch.rival_name} would have removed"
        scale = "share of the kept units"
    else:
        shares, title, scale = history(rows, KEPT), "Units kept", "share of all units"
    where = Path(place_of(watch.subject, watch.budget)).name
    kept = KeptHistory(watch.graph, shares, progress.best_step, title, where, scale)
    plot_kept(kept, run.path / KEPT_PICTURE)


def _conclude(run: RunFolder, learner: Learner, judge: Judge, progress: Progress) -> TrainReport:
    """Compare the best policy with the baselines, and write report and card."""
    recipe, policy = run.recipe, load_policy_folder(run.path / BEST)
    scores: dict[str, Scores] = {policy.name: judge.scores(policy)}
    for name in recipe.evaluation.baselines:
        scores[name] = judge.scores(load_policy(name))
    report = TrainReport(
        policy.name,
        str(run.path),
        recipe.model_dump(mode="json"),
        progress.step,
        progress.best_step,
        scores,
        learner.evidence(),
        progress.best if progress.best is not None else -mean(scores[policy.name]),
    )
    report.save(run.path)
    write_policy_card(report.card, run.path / BEST)
    return report
