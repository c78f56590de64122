"""What decisions on prompts came to: beside the oracle, single actions, and chance at the same rates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from prunepolicy.agents.runtime.plotting import LINES, finish, picture
from prunepolicy.agents.training.run_report import RunReport, RunsReport
from prunepolicy.envs.thinking.metrics import DifficultyBin
from prunepolicy.envs.thinking.oracle import Value
from prunepolicy.envs.thinking.source import Array
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.measure.intervals import Interval


@dataclass(frozen=True)
class BanditReport(RunReport):
    """The result of a run.

    Attributes:
        values: expected reward of decisions on evaluation prompts, by policy.
        bins: how often is thought, from easy to hard prompts.
        gain: interval of the reward gained over random decisions at the same rates, over prompts.
    """

    name: str
    folder: str
    recipe: dict[str, Any]
    steps: int
    best_step: int
    values: dict[str, Value]
    bins: list[DifficultyBin]
    selected: float
    gain: Interval | None = None

    @property
    def verdict(self) -> str:
        """One sentence: how far from the oracle, and what was learned beyond a rate."""
        found, chance = self.values["learned"], self.values["random, at the learned rates"]
        easy, hard = self.bins[0].mean, self.bins[-1].mean
        shown = "" if self.gain is None or self.gain.excludes(0) else " (no difference shown)"
        return (
            f"Regret {found.regret:.3f} where random decisions at the same rates have "
            f"{chance.regret:.3f}{shown}; "
            f"it thinks about {easy:.0%} of the easiest and {hard:.0%} of the hardest prompts."
        )

    def render(self, console: Console) -> None:
        """Print the expected reward of every policy, and the verdict."""
        grid = Table(title="Prompts that nobody learned from")
        for heading in ("", "reward", "regret", "accuracy", "tokens", "thinks"):
            grid.add_column(heading, justify="right" if heading else "left")
        for name, value in self.values.items():
            numbers = (f"{value.reward:.3f}", f"{value.regret:.3f}", f"{value.accuracy:.1%}")
            grid.add_row(name, *numbers, f"{value.tokens:.0f}", f"{value.think:.0%}")
        console.print(grid)
        console.print(self.verdict, soft_wrap=True)


@dataclass(frozen=True)
class BanditSeedsReport(RunsReport[BanditReport]):
    """The result of several runs that differ in their seed."""

    name: str
    folder: str
    runs: tuple[BanditReport, ...]

    def to_json(self) -> str:
        """Return the report as JSON text."""
        runs = [json.loads(run.to_json()) for run in self.runs]
        return json.dumps({"name": self.name, "folder": self.folder, "runs": runs}, indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print median and range of every regret over the seeds."""
        grid = Table(title=f"Regret, {len(self.runs)} seeds")
        for heading in ("", "median", "lowest", "highest"):
            grid.add_column(heading, justify="right" if heading else "left")
        for name in self.runs[0].values:
            regrets = [run.values[name].regret for run in self.runs]
            grid.add_row(name, *(f"{value:.3f}" for value in (median(regrets), min(regrets), max(regrets))))
        console.print(grid)
        for run in self.runs:
            console.print(f"seed {run.recipe['seed']}: {run.verdict}", soft_wrap=True)


def plot_decisions(difficulty: Array, thinking: Mapping[str, Array], path: Path) -> None:
    """Draw the probability of thinking over difficulty as a PNG, a set of dots per decider."""
    order = np.argsort(difficulty)
    with picture(path, (7.4, 4.0)) as axes:
        for (name, shares), (colour, marker) in zip(thinking.items(), LINES, strict=False):
            axes.plot(difficulty[order], shares[order], marker, color=colour, markersize=2, label=name)
        axes.set(xlabel="difficulty", ylabel="probability of thinking", title="When it thinks")
        finish(axes, axes.lines)
