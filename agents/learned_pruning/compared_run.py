"""Runs whose policies were measured beside others: who is better, in a word, in a sentence, and on a card."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prunepolicy.agents.learned_pruning.evaluator import Scores, mean
from prunepolicy.agents.learned_pruning.policy_card import (
    CardScores,
    EvaluationModels,
    Failure,
    PolicyCard,
    Word,
)
from prunepolicy.agents.training.run_report import RunReport
from prunepolicy.pruning.measure.intervals import Interval

MARGIN = 0.05
"""Share by which scores have to differ before one run's lead or lag is called one: seeds alone move excess
log-perplexity by a few percent."""
PLACES = 4
"""Decimal places of scores."""


@dataclass(frozen=True)
class ComparedRun(RunReport):
    """The result of a run that leaves a policy with evidence.

    Attributes:
        policy: name of the learned policy.
        steps: training steps done.
        best_step: the step whose policy is kept as the best.
        scores: by policy, and then by what it was measured on; lower is better.
        evidence: what was measured about the learning itself.
        evaluation_models: fingerprints of the evaluation models, by name.
        differences: by heuristic, the interval of the learned policy's mean score less the heuristic's, from
            the samples that both were measured on; empty in reports of early versions.
    """

    policy: str
    folder: str
    recipe: dict[str, Any]
    steps: int
    best_step: int
    scores: dict[str, Scores]
    evidence: dict[str, float]
    selected: float
    evaluation_models: EvaluationModels = field(default_factory=dict)
    differences: dict[str, Interval] = field(default_factory=dict)

    @property
    @abstractmethod
    def unit(self) -> str:
        """What is said behind scores."""

    @property
    @abstractmethod
    def measure(self) -> str:
        """One or two sentences: what scores are; empty where the card says it itself."""

    @property
    @abstractmethod
    def models(self) -> tuple[str, ...]:
        """What was learned from."""

    @property
    @abstractmethod
    def held_out(self) -> tuple[str, ...]:
        """What it was evaluated on, where that isn't a language model."""

    @property
    def evaluated_model(self) -> str:
        """A model that this was measured on, as commands name it."""
        return "MODEL"

    @property
    def means(self) -> dict[str, float]:
        """Mean score by policy, the best first."""
        return dict(sorted(((n, mean(s)) for n, s in self.scores.items()), key=lambda item: item[1]))

    @property
    def best_heuristic(self) -> str | None:
        """The heuristic with the lowest mean; None when none was asked for."""
        return next((name for name in self.means if name != self.policy), None)

    @property
    def word(self) -> Word:
        """One word: how the policy compares with the best heuristic."""
        if self.best_heuristic is None:
            return "alone"
        rival, own = self.means[self.best_heuristic], self.means[self.policy]
        difference = self.differences.get(self.best_heuristic)
        if abs(own - rival) <= MARGIN * abs(rival) or (difference and not difference.excludes(0)):
            return "ties"
        return "beats" if own < rival else "loses"

    @property
    def verdict(self) -> str:
        """One sentence: how the policy compares with the best heuristic."""
        rival, own = self.best_heuristic, self.means[self.policy]
        if rival is None:
            return f"This policy was compared with nothing: {own:.4f} {self.unit}."
        numbers = f"{own:.4f} against {self.means[rival]:.4f} {self.unit}{self._sampling(rival)}"
        if self.word == "beats":
            return f"In this one run, this policy beats the best heuristic, {rival}: {numbers}."
        if self.word == "ties":
            return f"No difference shown between this policy and the best heuristic, {rival}: {numbers}."
        return f"This policy doesn't beat the best heuristic, {rival}: {numbers}. Use {rival} instead."

    def _sampling(self, rival: str) -> str:
        difference = self.differences.get(rival)
        return f" (difference {difference.written(PLACES)}, 95 %)" if difference else ""

    @property
    def card(self) -> PolicyCard:
        """What the policy's folder says about it."""
        return card_of(self.policy, [self], self, (self.word, self.verdict))


def card_of(
    name: str, runs: Sequence[ComparedRun], chosen: ComparedRun, verdict: tuple[Word, str]
) -> PolicyCard:
    """Return the card of the policy that `chosen`, one of `runs`, has learned."""
    learned = CardScores.of([run.scores[run.policy] for run in runs])
    heuristics = {
        rival: CardScores.of([run.scores[rival] for run in runs])
        for rival in chosen.scores
        if rival != chosen.policy
    }
    heuristics = dict(sorted(heuristics.items(), key=lambda item: item[1].mean.median))
    return PolicyCard(
        name=name,
        kind=str(chosen.recipe["policy"].get("kind")),
        word=verdict[0],
        verdict=verdict[1],
        measure=chosen.measure,
        models=chosen.models,
        held_out=chosen.held_out,
        seeds=tuple(run.recipe["seed"] for run in runs),
        chosen_seed=chosen.recipe["seed"],
        steps=chosen.steps,
        best_step=chosen.best_step,
        chosen=chosen.scores[chosen.policy],
        learned=learned,
        heuristics=heuristics,
        leads={rival: _leads(runs, rival) for rival in heuristics},
        failures=_failures(learned, heuristics),
        evidence=chosen.evidence,
        recipe=chosen.recipe,
        evaluation_models=chosen.evaluation_models,
    )


def _leads(runs: Sequence[ComparedRun], rival: str) -> int:
    return sum(run.means[run.policy] < run.means[rival] for run in runs)


def _failures(learned: CardScores, heuristics: Mapping[str, CardScores]) -> tuple[Failure, ...]:
    """Return the places where the best heuristic of that place is better."""
    failures = []
    for where, own in learned.cells.items():
        rivals = {name: scored.cells[where].median for name, scored in heuristics.items()}
        best = min(rivals, key=rivals.__getitem__, default=None)
        if best is not None and rivals[best] < own.median:
            failures.append(
                Failure(where=where, score=own.median, heuristic=best, heuristic_score=rivals[best])
            )
    return tuple(failures)
