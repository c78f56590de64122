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
from prunepolicy.agents.training.run_report import RunReport
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.claim import claimed
from prunepolicy.pruning.io.progress import Listener, ProgressReporter

SCORE = "held_out/score"


def train(
    recipe: RunRecipe,
    folder: Path,
    resume: bool = False,
    progress: bool | Listener | ProgressReporter = False,
    command: str = "",
    runner: Runner | None = None,
) -> RunReport:
    """Learn what `recipe` says in `folder`, and compare the result with what needs no learning.

    Args:
        folder: for the run; must be empty or absent unless `resume`.
        resume: continue from the last checkpoint; on a CPU the result is the same bit by bit as
            without the interruption.
        progress: whether steps are told on standard error, or what is called with every `Event`.
        runner: plays episodes and measures plans; in this process when None, with the same result.

    Raises:
        PrunePolicyError: when something learned is no number any more, or the recipe is wrong.
    """
    steps, runner = ProgressReporter.told(progress), runner or LocalRunner()
    recipe.check_name(folder.name)
    algorithm = algorithms[recipe.algorithm]
    algorithm.learner_type.check(recipe)
    with leaving_nothing([folder]), claimed(folder):
        run = (RunFolder.reopen if resume else RunFolder.start)(folder, recipe, command)
        experiment: Experiment = algorithm.experiment_type.prepare(algorithm.learner_type, run, steps, runner)
        reached, state = run.latest()
        if reached.step:
            experiment.learner.restore(state)
        report = experiment.conclude(_Training(run, experiment, steps).run(reached))
        run.count_cpu()
    return report


@dataclass
class _Training:
    run_folder: RunFolder
    experiment: Experiment
    steps: ProgressReporter

    def run(self, progress: RunProgress) -> RunProgress:
        """Step, log, evaluate and save until the recipe's last step, or until nothing improves."""
        self.run_folder.open_events(progress.step)
        left = self._left(progress)
        try:
            with self.steps.step("learn", left) as tick:
                while left and not self._is_stale(progress):
                    progress = self._advance(progress)
                    before, left = left, self._left(progress)
                    tick(before - left)  # more than one where a stage has ended early
        finally:
            self.run_folder.close()
        return progress

    def _advance(self, progress: RunProgress) -> RunProgress:
        recipe, step = self.run_folder.recipe, progress.step + 1
        metrics = self.experiment.learner.step()
        check_finite(metrics, step)
        self.run_folder.log(step, metrics)
        progress = replace(progress, step=step)
        last = not self._left(progress)
        if last or step % recipe.evaluation.every == 0:
            progress = self._evaluate(progress)
        if last or step % recipe.checkpoint_every == 0 or self._is_stale(progress):
            self.experiment.save(LAST)
            self.run_folder.checkpoint(progress, self.experiment.learner.state())
        return progress

    def _evaluate(self, progress: RunProgress) -> RunProgress:
        judgement = self.experiment.evaluate()
        check_finite(judgement.scores, progress.step)
        self.run_folder.log(progress.step, {SCORE: judgement.score, **judgement.scores})
        self.steps.note(f"  step {progress.step}: {judgement.sentence}")
        if progress.best is not None and judgement.score <= progress.best:
            return replace(progress, stale=progress.stale + 1)
        self.experiment.save(BEST)
        return replace(progress, best=judgement.score, best_step=progress.step, stale=0)

    def _left(self, progress: RunProgress) -> int:
        """Return the number of steps until the last one."""
        left = self.run_folder.recipe.max_steps - progress.step
        return max(0, int(min(left, self.experiment.learner.steps_left)))

    def _is_stale(self, progress: RunProgress) -> bool:
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
