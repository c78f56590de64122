"""What a metanetwork came to: networks with and without it, through the same pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from rich.table import Table

from prunepolicy.agents.learned_pruning.compared_run import ComparedRun
from prunepolicy.agents.learned_pruning.evaluator import Scores
from prunepolicy.agents.learned_pruning.policy_card_text import command_of
from prunepolicy.agents.metanet.tradeoff_curve import Curve
from prunepolicy.agents.runtime.plotting import LINES, finish, picture
from prunepolicy.policy.load import as_place
from prunepolicy.pruning.io.console import Console

WITH, WITHOUT = "with the metanetwork", "without"
COLUMNS = ("network", "way", "FLOPs reduced", "dense", "right after the cut", "recovered")


@dataclass(frozen=True)
class Outcome:
    """One network that went through the pipeline, evaluated on the test part.

    Attributes:
        target: number of the network.
        way: with the metanetwork or without.
        speedup: by how many times FLOPs were to be reduced; fewer FLOPs need not take less time.
        reached: by how many times they were.
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
class MetanetReport(ComparedRun):
    """The result of a run.

    Attributes:
        untouched: the score that chose the best step, without the metanetwork.
        curves: score right after the cut by how many times less is left, of a held-out network, on
            validation data.
    """

    untouched: float = field(kw_only=True)
    curves: dict[str, Curve] = field(kw_only=True)
    outcomes: list[Outcome] = field(kw_only=True)

    @property
    def unit(self) -> str:
        """What is output behind scores."""
        return f"{self._what} {self._when}"

    @property
    def measure(self) -> str:
        """What scores are, and which networks they are of."""
        return (
            f"Scores are the {self.unit}: of networks that the metanetwork has prepared for the cut, and "
            "of the same networks without it, all cut to the same FLOPs by the same criterion."
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The family."""
        family = self.recipe["family"]
        return (f"{family['count'] - family['held_out']} networks, {self._network}",)

    @property
    def held_out(self) -> tuple[str, ...]:
        """The networks whose scores are compared."""
        count = len({outcome.target for outcome in self.outcomes}) or self.recipe["family"]["held_out"]
        return (f"{count} of other seeds",)

    @property
    def verdict(self) -> str:
        """Two sentences: whether the policy beats the criterion, and what the metanetwork adds."""
        right_after = f"Right after cuts {self.selected:.4f}, {self.untouched:.4f} without it"
        ends = [f"at {speedup:g}x {gain:+.4f}" for speedup, gain in self.gains.items()]
        after_all = f"; after the same training, {', '.join(ends)} on test data" if ends else ""
        return f"{super().verdict} {right_after}{after_all} (higher is better)."

    @property
    def _network(self) -> str:
        data, network = self.recipe["data"], self.recipe["network"]
        sizes = ", ".join(f"{key} {value}" for key, value in network.items())
        return f"{sizes}, on {data.get('source') or data.get('text')}"

    @property
    def _what(self) -> str:
        return "error rate" if "source" in self.recipe["data"] else "log-perplexity"

    @property
    def _when(self) -> str:
        return (
            "on test data after the training that follows"
            if self.outcomes
            else "on validation data right after cuts"
        )

    @property
    def gains(self) -> dict[float, float]:
        """What the metanetwork adds to the final score by reduction of FLOPs, the mean over networks."""
        speedups = dict.fromkeys(outcome.speedup for outcome in self.outcomes)
        return {speedup: self._mean(speedup, True) - self._mean(speedup, False) for speedup in speedups}

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
        console.print(self.verdict, soft_wrap=True)
        console.print(f"Use it: {command_of(self.card, as_place(self.folder))}", soft_wrap=True)

    def _mean(self, speedup: float, helped: bool) -> float:
        return mean(o.recovered for o in self.outcomes if o.speedup == speedup and (o.way == WITH) == helped)


def scores_of(
    policy: str, rival: str, worst: float, outcomes: Sequence[Outcome], curves: Mapping[str, Curve]
) -> dict[str, Scores]:
    """Return what cards compare, lower is better: how outcomes end, or the curves where there are none.

    Args:
        rival: name of what cuts networks without the metanetwork.
        worst: what scores are subtracted from.
    """
    if not outcomes:
        ways = {policy: curves[WITH], rival: curves[WITHOUT]}
        return {
            name: {f"held-out network, {speedup:g}x": worst - score for speedup, score in curve.items()}
            for name, curve in ways.items()
        }
    scores: dict[str, Scores] = {policy: {}, rival: {}}
    for one in outcomes:
        by_place = scores[policy if one.way == WITH else rival]
        by_place[f"network {one.target}, {one.speedup:g}x"] = worst - one.recovered
    return scores


def plot_curves(curves: Mapping[str, Curve], of: str, path: Path) -> None:
    """Draw score against how many times less is left as a PNG, a line per way.

    Args:
        of: what is counted.
    """
    with picture(path, (7.8, 4.0)) as axes:
        for (name, curve), (colour, marker) in zip(curves.items(), LINES, strict=False):
            axes.plot(*zip(*curve.items(), strict=True), color=colour, marker=marker, label=name)
        what = "FLOPs" if of == "flops" else of
        axes.set(
            xlabel=f"times less of {what}",
            ylabel="score right after the cut (higher is better)",
            title="A network that nobody learned from",
        )
        finish(axes, axes.lines)
