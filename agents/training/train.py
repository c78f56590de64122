"""Train: recipe in, run folder out, with the best of what was learned, its evidence and a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.training.algorithms import algorithms
from prunepolicy.agents.training.experiment import Experiment
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.run_folder import BEST, LAST, RunFolder, RunProgress, leaving_nothing
from prunepolicy.agents.training.run_report import Presentable, RunReport
from prunepolicy.agents.training.tracker import TENSORBOARD, check_logger
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.claim import claimed
from prunepolicy.pruning.io.progress import Listener, ProgressReporter

SCORE = "held_out/score"
LEARN = "learn"
"""The step of progress that a run's learning steps are."""


def train(
    recipe: RunRecipe,
    folder: str | Path,
    resume: bool = False,
    progress: bool | Listener | ProgressReporter = False,
    command: str = "",
    runner: Runner | None = None,
    log_to: str = TENSORBOARD,
) -> RunReport:
    """Learn what `recipe` says in `folder`, and compare the result with what needs no learning.

    Args:
        folder: for the run; must be empty or absent unless `resume`.
        resume: continue from the last checkpoint; on a CPU the result is the same bit by bit as
            without the interruption.
        progress: whether progress is shown on standard error, or what is called with every `Event`.
        runner: plays episodes and measures plans; in this process when None, with the same result.
        log_to: where metrics go beside the run's own files: `tensorboard`, whose events lie in the folder,
            `wandb` or `trackio`.

    Raises:
        UsageError: where that tracker isn't installed.
        PrunePolicyError: if a metric becomes NaN or infinite, or the recipe is wrong.
    """
    folder, progress, runner = Path(folder), ProgressReporter.of(progress), runner or LocalRunner()
    recipe.check_name(folder.name)
    if log_to != TENSORBOARD:  # Events are written where they can be, unasked.
        check_logger(log_to)
    algorithm = algorithms[recipe.algorithm]
    algorithm.learner_type.check(recipe)
    with leaving_nothing([folder]), claimed(folder):
        run = (RunFolder.reopen if resume else RunFolder.start)(folder, recipe, command)
        run.log_to = log_to
        experiment: Experiment = algorithm.experiment_type.prepare(
            algorithm.learner_type, run, progress, runner
        )
        start = run.restored(experiment.learner)
        report = experiment.conclude(_Training(run, experiment, progress).run(start))
        run.count_cpu()
    return report


def estimate(recipe: RunRecipe) -> Presentable:
    """Return what the run of a recipe will need, without starting it.

    Raises:
        UsageError: where its algorithm has no estimate.
    """
    needed: Presentable = algorithms[recipe.algorithm].experiment_type.estimate(recipe)
    return needed


@dataclass
class _Training:
    run_folder: RunFolder
    experiment: Experiment
    progress: ProgressReporter

    def run(self, reached: RunProgress) -> RunProgress:
        """Step, log, evaluate and save until the recipe's last step, or until nothing improves."""
        self.run_folder.open_events(reached.step)
        left = self._left(reached)
        try:
            with self.progress.step(LEARN, left) as tick:
                while left and not self._is_stale(reached):
                    reached = self._advance(reached)
                    before, left = left, self._left(reached)
                    tick(before - left)  # more than one where a stage has ended early
        finally:
            self.run_folder.close()
        return reached

    def _advance(self, reached: RunProgress) -> RunProgress:
        recipe, step = self.run_folder.recipe, reached.step + 1
        metrics = self.experiment.learner.step()
        check_finite(metrics, step)
        self.run_folder.log(step, metrics)
        reached = replace(reached, step=step)
        last = not self._left(reached)
        if last or step % recipe.evaluation.every == 0:
            reached = self._evaluate(reached)
        if last or step % recipe.checkpoint_every == 0 or self._is_stale(reached):
            self.experiment.save(LAST)
            self.run_folder.checkpoint(reached, self.experiment.learner.state())
        return reached

    def _evaluate(self, reached: RunProgress) -> RunProgress:
        result = self.experiment.evaluate()
        check_finite(result.scores, reached.step)
        self.run_folder.log(reached.step, {SCORE: result.score, **result.scores})
        self.progress.note(f"  step {reached.step}: {result.sentence}")
        if reached.best is not None and result.score <= reached.best:
            return replace(reached, stale=reached.stale + 1)
        self.experiment.save(BEST)
        return replace(reached, best=result.score, best_step=reached.step, stale=0)

    def _left(self, reached: RunProgress) -> int:
        """Return the number of steps until the last one."""
        left = self.run_folder.recipe.max_steps - reached.step
        return max(0, int(min(left, self.experiment.learner.steps_left)))

    def _is_stale(self, reached: RunProgress) -> bool:
        patience = self.run_folder.recipe.evaluation.patience
        return patience is not None and reached.stale >= patience


def check_finite(metrics: Mapping[str, float], step: int) -> None:
    """Raise `PrunePolicyError` when a metric is NaN or infinite.

    The last checkpoint stays as it was.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise PrunePolicyError(
                f"Training broke at step {step}: {name} is {value}. The last checkpoint is untouched; "
                "lower the learning rate (--set learner.learning_rate=...) and start again."
            )
