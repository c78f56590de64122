"""What a training run came to: scores of the learned policy and of the heuristics, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from prunepolicy.agents.learned_pruning.judge import Scores, mean
from prunepolicy.agents.learned_pruning.policy_card import PolicyCard, Word, card_of
from prunepolicy.agents.training.run_report import RunReport

MARGIN = 0.05
"""Share by which excess log-perplexity has to fall before one run's lead is called one: probe seeds
alone move it by a few percent."""


@dataclass(frozen=True)
class TrainReport(RunReport):
    """The result of a run.

    Attributes:
        policy: name of the learned policy.
        steps: learning steps done.
        best_step: the step whose policy is kept as the best.
        scores: by policy, the excess log-perplexity (nats per token) by model and budget.
        evidence: what the algorithm measured about itself.
        judges: fingerprints of the models that judged, by name.
    """

    policy: str
    folder: str
    recipe: dict[str, Any]
    steps: int
    best_step: int
    scores: dict[str, Scores]
    evidence: dict[str, float]
    selected: float
    judges: dict[str, str] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """Mean excess log-perplexity by policy, the best first."""
        return dict(sorted(((n, mean(s)) for n, s in self.scores.items()), key=lambda item: item[1]))

    @property
    def best_heuristic(self) -> str | None:
        """The heuristic with the lowest mean; None when none was asked for."""
        return next((name for name in self.means if name != self.policy), None)

    @property
    def word(self) -> Word:
        """One word: whether learning was worth it."""
        if self.best_heuristic is None:
            return "alone"
        rival, own = self.means[self.best_heuristic], self.means[self.policy]
        if own < (1 - MARGIN) * rival:
            return "beats"
        return "ties" if own < rival else "loses"

    @property
    def verdict(self) -> str:
        """One sentence: whether learning was worth it."""
        rival, own = self.best_heuristic, self.means[self.policy]
        if rival is None:
            return f"This policy was compared with nothing; its excess log-perplexity is {own:.4f}."
        numbers = f"{own:.4f} against {self.means[rival]:.4f} nats per token over the dense model"
        if self.word == "beats":
            return f"In this one run, this policy beats the best heuristic, {rival}: {numbers}."
        if self.word == "ties":
            return f"This policy doesn't beat the best heuristic, {rival}, it ties: {numbers}."
        return f"This policy doesn't beat the best heuristic, {rival}: {numbers}. Use {rival} instead."

    @property
    def card(self) -> PolicyCard:
        """What the policy's folder says about it."""
        return card_of(self.policy, [self], self, (self.word, self.verdict))

    def rows(self) -> list[tuple[str, ...]]:
        """Return one row per model and budget, and one of means: its name, and every policy's score."""
        places = [
            (place, *(f"{self.scores[name][place]:.4f}" for name in self.means))
            for place in self.scores[self.policy]
        ]
        return [*places, ("mean", *(f"{average:.4f}" for average in self.means.values()))]

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of `rows`: the policies, the best first."""
        return ("model, budget", *self.means)

    def render(self, console: Console) -> None:
        """Print the table and the verdict."""
        grid = Table(title="Excess log-perplexity over the dense model, nats per token")
        for heading in self.columns:
            left = heading == self.columns[0]
            style = "bold" if heading == self.policy else None
            grid.add_column(heading, justify="left" if left else "right", style=style)
        for row in self.rows():
            grid.add_row(*row)
        console.print(grid)
        console.print(self.verdict, highlight=False, soft_wrap=True)
        console.print(
            f"Use it: prune-with-policy MODEL --policy {self.folder} --keep 0.8 --out smaller/",
            highlight=False,
            soft_wrap=True,
        )
