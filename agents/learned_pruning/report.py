"""What a training run came to: scores of the learned policy and of the heuristics, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.table import Table

from prunepolicy.agents.learned_pruning.compared_run import ComparedRun
from prunepolicy.agents.learned_pruning.policy_card_text import command_of
from prunepolicy.policy.load import as_place
from prunepolicy.pruning.io.console import Console

UNIT = "nats per token over the dense model"


@dataclass(frozen=True)
class TrainReport(ComparedRun):
    """The result of a run: scores are excess log-perplexities (nats per token) by model and budget.

    Attributes:
        to_beat: by what has to be beaten, the mean score on the text that chose the best step: of the policy
            before it had learned anything, and of the best heuristic; empty in reports of early versions.
    """

    to_beat: dict[str, float] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What is said behind scores."""
        return UNIT

    @property
    def measure(self) -> str:
        """Nothing: cards know it."""
        return ""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that were learned from."""
        return tuple(self.recipe["models"])

    @property
    def held_out(self) -> tuple[str, ...]:
        """The evaluation models."""
        return tuple(self.recipe["held_out"])

    @property
    def evaluated_model(self) -> str:
        """The first that was held out, or learned from where none was."""
        return (*self.held_out, *self.models)[0]

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
        console.print(self.verdict, soft_wrap=True)
        console.print(
            f"Use it: {command_of(self.card, as_place(self.folder), self.evaluated_model)}",
            soft_wrap=True,
        )
