"""Experiments on decisions about prompts, evaluated on prompts that nothing was learned from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, cast

import numpy as np

from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.runtime.svg_charts import Chart, Series
from prunepolicy.agents.thinking.bandit.learner import BanditRecipe, ThinkBandit
from prunepolicy.agents.thinking.bandit.report import BanditReport, BanditSeedsReport, plot_decisions
from prunepolicy.agents.training.experiment import EvalResult, Experiment
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.run_folder import BEST, RunFolder, RunProgress, seed_generators
from prunepolicy.agents.training.run_page import RunPage, learning_chart, write_run_page
from prunepolicy.envs.thinking.metrics import by_difficulty
from prunepolicy.envs.thinking.oracle import Value, oracle, value_of, values
from prunepolicy.envs.thinking.rollouts import Mode
from prunepolicy.envs.thinking.source import Array, PromptSource
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm
from prunepolicy.pruning.checkpoint.checkpoint import read_json
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.measure.intervals import Interval, mean_interval

DECISION, PICTURE = "decision.json", "think.png"
JUDGED = ("reward", "regret", "accuracy", "tokens", "think")


@dataclass
class BanditExperiment(Experiment):
    """Learns when to think from outcomes, and compares with rules that need no learning."""

    report_type: ClassVar[type[BanditReport]] = BanditReport
    seeds_report_type: ClassVar[type[BanditSeedsReport]] = BanditSeedsReport
    run_folder: RunFolder
    recipe: BanditRecipe
    learner: ThinkBandit
    held_out: PromptSource
    term: OutcomeTerm

    @classmethod
    def prepare(
        cls, algorithm: type[SteppedLearner], run: RunFolder, progress: ProgressReporter, runner: Runner
    ) -> Self:
        """Draw or load the prompts."""
        recipe = cast(BanditRecipe, run.recipe)
        term = recipe.evaluation.term
        seed_generators(recipe.seed)
        source, held_out = recipe.prompts.sources(recipe.seed)
        learner = cast(type[ThinkBandit], algorithm)(recipe.learner, source, recipe.seed)
        return cls(run, recipe, learner, held_out, term)

    def evaluate(self) -> EvalResult:
        """Return the expected reward on the evaluation prompts."""
        value = self._value(self.learner.probabilities(self.held_out))
        scores = {f"held_out/{name}": getattr(value, name) for name in JUDGED}
        sentence = f"thinks {value.think:.0%} of the time, regret {value.regret:.3f}"
        return EvalResult(value.reward, scores, sentence)

    def save(self, name: str) -> None:
        """Save the actions and their weights."""
        data = {"actions": self.recipe.learner.actions, "weights": self.learner.weights.tolist()}
        self.run_folder.keep(lambda folder: write_text(folder / DECISION, json.dumps(data, indent=1)), name)

    def conclude(self, progress: RunProgress) -> BanditReport:
        """Compare the best step with the oracle, with every single action, and with chance at its rates."""
        path = self.run_folder.path
        self.learner.weights = stored_weights(path / BEST, self.learner.weights.shape)
        chances = self.learner.probabilities(self.held_out)
        best = oracle(self.held_out, self.learner.env.task.choices, self.term)
        thinking = self._thinking(chances)
        plot_decisions(
            self.held_out.difficulty, {"learned": thinking, "oracle": self._thinking(best)}, path / PICTURE
        )
        report = BanditReport(
            path.name,
            str(path),
            self.recipe.model_dump(mode="json"),
            progress.step,
            progress.best_step,
            {name: self._value(each) for name, each in self._contenders(chances, best).items()},
            by_difficulty(thinking, self.held_out.difficulty),
            progress.best or 0.0,
            self._gain(chances),
        )
        report.save(path)
        write_run_page(report, self.run_folder, self._page(report))
        return report

    def _page(self, report: BanditReport) -> RunPage:
        """Return the think rate by difficulty, and rewards beside those of rules that need no learning."""
        points = [((each.low + each.high) / 2, each.mean) for each in report.bins]
        titles = [
            f"difficulty {each.low:.2g} to {each.high:.2g}: {each.mean:.0%} of {each.rows} prompts"
            for each in report.bins
        ]
        to_beat = {name: each.reward for name, each in report.values.items() if name != "learned"}
        charts = [
            Chart("difficulty", "Probability of thinking.", [Series("learned", points, titles)]),
            learning_chart(
                self.run_folder,
                report.best_step,
                "Expected reward on evaluation prompts: more is better; dashed lines need no learning.",
                to_beat,
            ),
        ]
        rows = [
            (name, f"{each.reward:.3f}", f"{each.regret:.3f}", f"{each.accuracy:.1%}", f"{each.think:.0%}")
            for name, each in report.values.items()
        ]
        head = ("", "reward", "regret", "accuracy", "thinks")
        return RunPage(charts, head, rows, "On prompts that nobody learned from.")

    def _contenders(self, learned: Array, best: Array) -> dict[str, Array]:
        """Return the probabilities of actions by whose they are."""
        alone = np.eye(learned.shape[1])
        always = {
            f"always {action}": np.tile(row, (len(learned), 1))
            for action, row in zip(self.recipe.learner.actions, alone, strict=True)
        }
        by_chance = np.tile(learned.mean(0), (len(learned), 1))
        return {**always, "random, at the learned rates": by_chance, "oracle": best, "learned": learned}

    def _gain(self, learned: Array) -> Interval:
        """Return what decisions earn beyond chance at the same rates, over prompts."""
        worth = values(self.held_out, self.learner.env.task.choices, self.term)
        return mean_interval(((learned - learned.mean(0)) * worth).sum(1))

    def _thinking(self, chances: Array) -> Array:
        """Return the probability of thinking, whatever the budget."""
        thinks = [choice.mode is Mode.THINK for choice in self.learner.env.task.choices]
        return np.asarray(chances[:, thinks].sum(1))

    def _value(self, chances: Array) -> Value:
        return value_of(self.held_out, self.learner.env.task.choices, chances, self.term)


def stored_weights(folder: Path, shape: tuple[int, ...]) -> Array:
    """Return the weights that `BanditExperiment.save` wrote, which must be finite and have a shape.

    Raises:
        BadCheckpointError: when they are missing, damaged, or of another shape.
    """
    try:
        weights = np.array(read_json(folder / DECISION).get("weights"), np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadCheckpointError(f"{folder / DECISION} is damaged: its weights are no numbers.") from error
    if weights.shape != shape or not np.isfinite(weights).all():
        raise BadCheckpointError(
            f"{folder / DECISION} holds no {' x '.join(map(str, shape))} finite weights."
        )
    return weights
