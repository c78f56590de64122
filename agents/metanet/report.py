"""What a metanetwork came to: networks with and without it, through the same pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from prunepolicy.agents.metanet.curve import Curve
from prunepolicy.agents.prune.plots import LINES, picture
from prunepolicy.agents.training.run_report import RunReport, RunsReport

WITH, WITHOUT = "with the metanetwork", "without"
COLUMNS = ("network", "way", "speed-up", "dense", "right after the cut", "recovered")


@dataclass(frozen=True)
class Outcome:
    """One network that went through the pipeline, judged on the test part.

    Attributes:
        target: number of the network.
        way: with the metanetwork or without.
        speedup: that was asked for.
        reached: in operations.
        dense: score of the network that it began with.
        right_after: score after the cut, with nothing but norm statistics measured again.
        recovered: score in the end.
    """

    target: int
    way: str
    speedup: float
    reached: float
    dense: float
    right_after: float
    recovered: float

    @property
    def scores(self) -> tuple[float, float, float]:
        """The three scores, as they came."""
        return self.dense, self.right_after, self.recovered


@dataclass(frozen=True)
class MetanetReport(RunReport):
    """The result of a run; scores are accuracies, or negative log-perplexities of language models.

    Attributes:
        policy: name of the metanetwork.
        untouched: the score that chose the best step, where nothing is rewritten.
        curves: score right after the cut by speed-up, of a held-out network, on validation data.
    """

    policy: str
    folder: str
    recipe: dict[str, Any]
    steps: int
    best_step: int
    selected: float
    untouched: float
    curves: dict[str, Curve]
    outcomes: list[Outcome]

    @property
    def verdict(self) -> str:
        """One sentence: what the metanetwork adds."""
        right_after = f"Right after cuts {self.selected:.4f}, {self.untouched:.4f} without it"
        ends = [f"at {speedup:g}x {gain:+.4f}" for speedup, gain in self.gains.items()]
        after_all = f"; after the same training, {', '.join(ends)} on test data" if ends else ""
        return f"{right_after}{after_all}."

    @property
    def gains(self) -> dict[float, float]:
        """What the metanetwork adds to the final score by speed-up, the mean over networks."""
        speedups = dict.fromkeys(outcome.speedup for outcome in self.outcomes)
        return {speedup: self._mean(speedup, True) - self._mean(speedup, False) for speedup in speedups}

    @property
    def card(self) -> str:
        """The text beside the policy, for whoever finds it."""
        rows = "\n".join(f"| {' | '.join(row)} |" for row in self.rows)
        head = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"
        data, family = self.recipe["data"], self.recipe["family"]
        learned = (
            "A metanetwork of prunepolicy: it rewrites the weights of a trained network for pruning. "
            f"Learned from {family['count'] - family['held_out']} networks ({self.recipe['network']}) on "
            f"{data.get('source') or data.get('text')}; step {self.best_step} of {self.steps} was chosen on "
            "held-out networks and validation data."
        )
        return f"# {self.policy}\n\n{self.verdict}\n\n{learned}\n\n{head}\n{rows}\n"

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The outcomes as text."""
        return [
            (
                str(o.target),
                o.way,
                f"{o.reached:.2f}x",
                *(f"{s:.4f}" for s in (o.dense, o.right_after, o.recovered)),
            )
            for o in self.outcomes
        ]

    def render(self, console: Console) -> None:
        """Print outcomes and verdict."""
        grid = Table(title="Networks that nobody learned from, on test data")
        for heading in COLUMNS:
            grid.add_column(heading, justify="left" if heading == "way" else "right")
        for row in self.rows:
            grid.add_row(*row)
        console.print(grid)
        console.print(self.verdict, highlight=False, soft_wrap=True)
        how = "--keep 0.4 --of flops --data DIR --out smaller/"
        use = f"Use it: prune-with-policy MODEL --policy {self.folder} {how}"
        console.print(use, highlight=False, soft_wrap=True)

    def _mean(self, speedup: float, rewritten: bool) -> float:
        return mean(
            o.recovered for o in self.outcomes if o.speedup == speedup and (o.way == WITH) == rewritten
        )


@dataclass(frozen=True)
class MetanetSeedsReport(RunsReport[MetanetReport]):
    """The result of several runs that differ in their seed."""

    name: str
    folder: str
    runs: tuple[MetanetReport, ...]

    def to_json(self) -> str:
        """Return the report as JSON text."""
        runs = [json.loads(run.to_json()) for run in self.runs]
        return json.dumps({"name": self.name, "folder": self.folder, "runs": runs}, indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print the verdict of every seed."""
        for run in self.runs:
            console.print(f"seed {run.recipe['seed']}: {run.verdict}", highlight=False, soft_wrap=True)
        kept = f"The metanetwork of seed {self.chosen.recipe['seed']} is kept as the best."
        console.print(kept, highlight=False)


def plot_curves(curves: Mapping[str, Curve], path: Path) -> None:
    """Draw score against speed-up as a PNG, a line per network."""
    with picture(path, (6.4, 4.0)) as axes:
        for (name, curve), (colour, marker) in zip(curves.items(), LINES, strict=False):
            axes.plot(*zip(*curve.items(), strict=True), color=colour, marker=marker, label=name)
        axes.set(
            xlabel="speed-up in operations", ylabel="score right after the cut", title="How it can be cut"
        )
        axes.legend()
