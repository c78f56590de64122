"""The experiment of models that learn when to think: validation, test and report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, cast

from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.thinking.lm.estimate import Estimate, estimate
from prunepolicy.agents.thinking.lm.grpo import Grpo
from prunepolicy.agents.thinking.lm.plots import plot_health, plot_think
from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.recipe import TRL, ThinkRecipe
from prunepolicy.agents.thinking.lm.think_eval import Think, ThinkEval, ThinkEvaluator
from prunepolicy.agents.thinking.lm.think_page import write_think_page
from prunepolicy.agents.thinking.lm.think_report import ThinkReport, ThinkSeedsReport
from prunepolicy.agents.training.experiment import EvalResult, Experiment
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.run_folder import BEST, RunFolder, RunProgress, seed_generators
from prunepolicy.pruning.errors import MissingExtraError, UsageError
from prunepolicy.pruning.io.progress import ProgressReporter

START = "start"
THINK_PICTURE, HEALTH_PICTURE = "think.png", "health.png"
METRICS = ("accuracy", "tokens", "think", "cut_off")
MODES: tuple[Think, ...] = ("auto", "always", "never")


@dataclass
class ThinkExperiment(Experiment):
    """Learns when to think, evaluated by accuracy and tokens on held-out problems."""

    report_type: ClassVar[type[ThinkReport]] = ThinkReport
    seeds_report_type: ClassVar[type[ThinkSeedsReport]] = ThinkSeedsReport
    run_folder: RunFolder
    recipe: ThinkRecipe
    learner: Grpo
    progress: ProgressReporter

    @classmethod
    def prepare(
        cls, algorithm: type[SteppedLearner], run: RunFolder, progress: ProgressReporter, runner: Runner
    ) -> Self:
        """Open or make the model."""
        recipe = cast(ThinkRecipe, run.recipe)
        seed_generators(recipe.seed)
        learner = _trl_grpo() if recipe.reinforcement.engine == TRL else cast(type[Grpo], algorithm)
        return cls(run, recipe, learner(recipe, progress, runner), progress)

    @classmethod
    def estimate(cls, recipe: ThinkRecipe) -> Estimate:
        """Return memory and time on 1, 4 and 8 GPUs of a run by TRL.

        Raises:
            UsageError: for models that our own loop trains.
        """
        if recipe.reinforcement.engine != TRL or recipe.model is None:
            raise UsageError("Estimates are for a model that reinforcement.engine=trl trains.")
        return estimate(recipe)

    def evaluate(self) -> EvalResult:
        """Return accuracy less the length penalty of sampled completions, and metrics of greedy ones."""
        learner, evaluator = self.learner, ThinkEvaluator(self.learner.problems.validation)
        sampled = evaluator.evaluate(learner.rollout_worker, learner.eval_sampling)
        greedy = evaluator.evaluate(learner.rollout_worker, learner.greedy)
        score = sampled.accuracy - self.recipe.evaluation.length_penalty * sampled.tokens / self.longest
        row = {f"held_out/{name}": getattr(sampled, name) for name in METRICS}
        row |= {f"held_out/greedy_{name}": getattr(greedy, name) for name in METRICS}
        row |= {f"think/difficulty_{one.difficulty}": one.think for one in sampled.bins}
        thinks = f"thinks {sampled.think:.0%} of the time"
        sentence = f"accuracy {sampled.accuracy:.0%}, {sampled.tokens:.1f} tokens, {thinks}"
        return EvalResult(score, row, sentence)

    @property
    def longest(self) -> int:
        """Tokens that the most generous stage allows."""
        return max(self.recipe.reinforcement.max_tokens)

    def save(self, name: str) -> None:
        """Save model and tokenizer as an ordinary Hugging Face folder; after a warm-up its end, too."""
        learner = self.learner
        self.run_folder.keep(learner.policy_model.save, name)
        if learner.warm and self.recipe.warm_up.steps and not (self.run_folder.path / START).is_dir():
            start = PolicyModel(learner.reference_model, learner.policy_model.prompting)
            self.run_folder.keep(start.save, START)

    def conclude(self, progress: RunProgress) -> ThinkReport:
        """Evaluate the reference model and the best step on the test problems, and write the report."""
        path = self.run_folder.path
        learned = PolicyModel.named(str(path / BEST), self.recipe.prompt, self.learner.hardware)
        reference = PolicyModel(self.learner.reference_model, self.learner.policy_model.prompting)
        with self.progress.step("evaluate the reference model and the best step"):
            report = ThinkReport(
                path.name,
                str(path),
                self.recipe.model_dump(mode="json"),
                progress.step,
                progress.best_step,
                self._evaluated(reference),
                self._evaluated(learned),
                progress.best or 0.0,
            )
        report.save(path)
        plot_health(self.run_folder.rows(), path / HEALTH_PICTURE)
        plot_think(report.examinations, path / THINK_PICTURE)
        write_think_page(report, self.run_folder)
        return report

    def _evaluated(self, policy_model: PolicyModel) -> dict[str, ThinkEval]:
        """Return the evaluation of a model, with the mode chosen by itself and forced."""
        how = self.recipe.evaluation
        rollout_worker = self.learner.rollout_worker_for(policy_model)
        evaluator = ThinkEvaluator(self.learner.problems.test, how.samples)
        sampling = policy_model.sampling(self.longest, how.temperature)
        return {mode: evaluator.evaluate(rollout_worker, sampling, mode) for mode in MODES}


def _trl_grpo() -> type[Grpo]:
    """Import TRL, which takes seconds, where a recipe asks for it."""
    try:
        from prunepolicy.agents.thinking.lm.trl_grpo import TrlGrpo
    except ImportError as error:
        raise MissingExtraError("reinforcement.engine=trl needs", "trl") from error
    return TrlGrpo
