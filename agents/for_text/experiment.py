"""Experiments on policies that read text: domains to fit on, domains to choose on, domains to test on."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import ClassVar, Self, cast

from torch import Tensor

from prunepolicy.agents.for_text.evaluator import DomainScores, TextEvaluator
from prunepolicy.agents.for_text.known import Texts, written
from prunepolicy.agents.for_text.learner import TextLearner
from prunepolicy.agents.for_text.recipe import ForTextRecipe
from prunepolicy.agents.for_text.report import TextReport, plot_over_tokens
from prunepolicy.agents.learned_pruning.carded_experiment import CardedExperiment
from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.learned_pruning.seeds_report import SeedsReport
from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.training.experiment import EvalResult
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.run_folder import BEST, RunFolder, RunProgress, seed_generators
from prunepolicy.policy.kinds.text import Text
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware

CURVE = "over_tokens.png"


@dataclass
class TextExperiment(CardedExperiment):
    """Fits scorers, and compares them by what pruned models lose on domains that are held out."""

    report_type: ClassVar[type[TextReport]] = TextReport
    seeds_report_type: ClassVar[type[SeedsReport[TextReport]]] = SeedsReport
    run_folder: RunFolder
    recipe: ForTextRecipe
    learner: TextLearner
    session: ModelSession
    tokens: Tensor
    progress: ProgressReporter

    @classmethod
    def prepare(
        cls, algorithm: type[SteppedLearner], run: RunFolder, progress: ProgressReporter, runner: Runner
    ) -> Self:
        """Let the model write, and divide what it wrote."""
        recipe = cast(ForTextRecipe, run.recipe)
        name = recipe.models[0]
        session = ModelSession(
            name, Checkpoint.open(resolve(name)), Hardware(recipe.device, recipe.dtype), progress
        )
        if session.checkpoint.adapter.task != "causal":
            raise UsageError(f"{name} doesn't write text, so there is none to learn from.")
        for budget in recipe.budgets.listed():
            recipe.beginner().check(session.checkpoint.graph, budget)
        writing = recipe.writing.settings(recipe.seed)
        texts = Texts.of(session, writing, recipe.domains.settings(recipe.seed))
        seed_generators(recipe.seed)
        tokens = written(session, writing)
        learner = cast(type[TextLearner], algorithm)(recipe, session, texts, tokens)
        return cls(run, recipe, learner, session, tokens, progress)

    def evaluate(self) -> EvalResult:
        """Return what the latest scorer's choices lose on the domains that choose."""
        name = self.learner.latest
        lost = self.learner.lost(name)
        sentence = f"{name} loses {lost:.4f} {self.learner.unit}"
        return EvalResult(-lost, {f"held_out/{self.learner.measure}": lost}, sentence)

    def save(self, name: str) -> None:
        """Save the policy with the latest scorer under the run's name."""
        self.run_folder.keep_policy(self.learner.policy(self.learner.latest), name)

    def conclude(self, progress: RunProgress) -> TextReport:
        """Compare all scorers on held-out domains, draw them over the tokens shown, and write the card."""
        path, recipe = self.run_folder.path, self.recipe
        policy = cast(Text, load_policy_folder(path / BEST))
        evaluator = TextEvaluator(self.session, self.learner.texts, self.tokens, recipe.evaluation.texts)
        budgets = recipe.budgets.listed()
        chosen = evaluator.scores(policy, budgets)
        rivals = [name for name in self.learner.fitted if name != policy.config.scorer]
        found = {name: evaluator.scores(self.learner.policy(name), budgets) for name in rivals}
        scores = {policy.name: over_domains(chosen)}
        scores |= {name: over_domains(each) for name, each in found.items()}
        report = TextReport(
            policy.name,
            str(path),
            recipe.model_dump(mode="json"),
            progress.step,
            progress.best_step,
            scores,
            {"domains": float(len({text.domain for text in self.learner.texts.texts}))},
            progress.best if progress.best is not None else -self.learner.lost(policy.config.scorer),
            {self.session.name: self.session.checkpoint.fingerprint},
            scorer=policy.config.scorer,
            worst=worst_domain(chosen),
        )
        plot_over_tokens(scores, recipe.domains.shown, recipe.budgets.keep[0], path / CURVE)
        report.save(path)
        write_policy_card(report.card, path / BEST)
        return report


def over_domains(scores: DomainScores) -> dict[str, float]:
    """Return the mean over domains, by tokens shown and budget."""
    places = dict.fromkeys(place for _, place in scores)
    return {place: mean(value for (_, other), value in scores.items() if other == place) for place in places}


def worst_domain(scores: DomainScores) -> tuple[int, float]:
    """Return the domain with the highest mean excess, and that excess."""
    means = {
        domain: mean(value for (other, _), value in scores.items() if other == domain) for domain, _ in scores
    }
    return max(means.items(), key=lambda item: item[1])
