"""What the same recipe came to with several seeds: medians, ranges, and a verdict over all of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TypeVar

from rich.table import Table

from prunepolicy.agents.learned_pruning.compared_run import ComparedRun, card_of
from prunepolicy.agents.learned_pruning.policy_card import CardScores, PolicyCard, Word
from prunepolicy.agents.learned_pruning.policy_card_text import agreement, command_of
from prunepolicy.agents.training.run_report import RunsReport
from prunepolicy.policy.load import as_place
from prunepolicy.pruning.io.console import Console

Compared = TypeVar("Compared", bound=ComparedRun)


@dataclass(frozen=True)
class SeedsReport(RunsReport[Compared]):
    """The result of several runs that differ in their seed.

    Attributes:
        policy: name of the policy that was chosen among what they learned.
        folder: of the runs.
        runs: one report per seed.
    """

    policy: str
    folder: str
    runs: tuple[Compared, ...]

    @property
    def learned(self) -> CardScores:
        """Scores of what was learned, over the seeds."""
        return CardScores.of([run.scores[run.policy] for run in self.runs])

    @property
    def best_heuristic(self) -> tuple[str, CardScores] | None:
        """The heuristic with the lowest median, and its scores; None when none was asked for."""
        names = [name for name in self.runs[0].scores if name != self.runs[0].policy]
        scored = [(name, CardScores.of([run.scores[name] for run in self.runs])) for name in names]
        return min(scored, key=lambda item: item[1].mean.median, default=None)

    @property
    def word(self) -> Word:
        """One word: what is true with every seed; where seeds disagree, no difference was shown."""
        words = {run.word for run in self.runs}
        return words.pop() if len(words) == 1 else "ties"

    @property
    def verdict(self) -> str:
        """One sentence: how the policy compares with the best heuristic."""
        count, own = len(self.runs), self.learned.mean
        if self.best_heuristic is None:
            return f"This policy was compared with nothing: {own} {self.chosen.unit}."
        rival, scored = self.best_heuristic
        numbers = f"{own} against {scored.mean} {self.chosen.unit}"
        if self.word == "beats":
            return f"With each of {count} seeds, this policy beats the best heuristic, {rival}: {numbers}."
        if self.word == "ties":
            wins, losses = (sum(run.word == word for run in self.runs) for word in ("beats", "loses"))
            return (
                f"No difference shown between this policy and the best heuristic, {rival}: {numbers}; it is "
                f"better with {wins} and worse with {losses} of {count} seeds."
            )
        return f"This policy loses to the best heuristic, {rival}: {numbers}. Use {rival} instead."

    @property
    def card(self) -> PolicyCard:
        """What the chosen policy's folder says about it."""
        return card_of(self.policy, self.runs, self.chosen, (self.word, self.verdict))

    def to_json(self) -> str:
        """Return the report as JSON text: every run, and the card that sums them up."""
        runs = [asdict(run) for run in self.runs]
        data = {"policy": self.policy, "folder": self.folder, "runs": runs}
        return (
            json.dumps({**data, "card": self.card.model_dump(mode="json")}, indent=1, sort_keys=True) + "\n"
        )

    def render(self, console: Console) -> None:
        """Print means and their ranges, by policy, and the verdict."""
        card = self.card
        grid = Table(title=f"Means, {self.chosen.unit}")
        for heading in ("policy", "median", *(f"seed {seed}" for seed in card.seeds)):
            grid.add_column(heading, justify="left" if heading == "policy" else "right")
        medians = {card.name: card.learned.mean, **{name: s.mean for name, s in card.heuristics.items()}}
        for name, spread in sorted(medians.items(), key=lambda item: item[1].median):
            means = [run.means[run.policy if name == card.name else name] for run in self.runs]
            cells = [f"{value:.4f}" for value in (spread.median, *means)]
            grid.add_row(name, *cells, style="bold" if name == card.name else None)
        console.print(grid)
        console.print(self.verdict, soft_wrap=True)
        use = command_of(card, as_place(self.folder), self.chosen.evaluated_model)
        console.print(f"Use it: {use}", soft_wrap=True)
        console.print(agreement(card))
        console.print(f"The policy of seed {card.chosen_seed} is kept as the best.")
