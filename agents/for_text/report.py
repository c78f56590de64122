"""What fitting text scorers came to: their excess on domains that nobody learned from, over tokens shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.learned_pruning.evaluator import Scores
from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.agents.runtime.plotting import LINES, finish, picture


@dataclass(frozen=True)
class TextReport(TrainReport):
    """The result of a run: scores are excess log-perplexities by tokens shown and budget.

    Attributes:
        scorer: name of the scorer that the policy decides by.
        worst: number of the held-out domain on which the policy loses the most, and what it loses there.
    """

    scorer: str = ""
    worst: tuple[int, float] = (0, 0.0)

    @property
    def measure(self) -> str:
        """What scores are."""
        domain, lost = self.worst
        return (
            "Excess log-perplexity over the dense model in nats per token, right after the cut and without "
            "repair, on texts that the dense model wrote, of domains without part in fitting or choosing: "
            "the first n tokens are shown, those after the longest showing scored. The policy decides by "
            f"`{self.scorer}`. Its worst domain is number {domain}, with {lost:.4f}."
        )

    @property
    def held_out(self) -> tuple[str, ...]:
        """What it was evaluated on."""
        return ("domains of text that the model wrote itself",)

    @property
    def evaluated_model(self) -> str:
        """The model that it is about."""
        return self.models[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of `rows`: the policies, the best first."""
        return ("tokens shown, budget", *super().columns[1:])


def place_of(tokens: int, keep: float) -> str:
    """Return what a score was measured on."""
    return f"n = {tokens}, keep {keep:g}"


def plot_over_tokens(scores: Mapping[str, Scores], shown: tuple[int, ...], keep: float, path: Path) -> None:
    """Draw the excess over the number of tokens shown as a PNG, a line per scorer."""
    with picture(path, (8.0, 4.0)) as axes:
        for (name, by_place), (colour, marker) in zip(scores.items(), LINES * 3, strict=False):
            values = [by_place[place_of(tokens, keep)] for tokens in shown]
            axes.plot(shown, values, marker, linestyle="-", color=colour, label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(shown, [f"{tokens:,}" for tokens in shown])
        axes.set(
            xlabel="tokens shown",
            ylabel="excess, nats per token (less is better)",
            title=f"Domains that nobody learned from, keep {keep:g}",
        )
        finish(axes, axes.lines)
