"""What learning when to think came to: the start and the best step, side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from prunepolicy.agents.thinking.lm.think_eval import ThinkEval
from prunepolicy.agents.training.run_report import RunReport, RunsReport
from prunepolicy.envs.thinking.metrics import Point, aes, e_f1
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.measure.intervals import Interval


@dataclass(frozen=True)
class ThinkReport(RunReport):
    """The result of a run.

    Attributes:
        start: examinations of the model that learning started with, by mode: auto, always, never.
        learned: of the best step, in the same modes.
    """

    name: str
    folder: str
    recipe: dict[str, Any]
    steps: int
    best_step: int
    start: dict[str, ThinkEval]
    learned: dict[str, ThinkEval]
    selected: float

    @property
    def examinations(self) -> dict[str, ThinkEval]:
        """What tables and pictures compare."""
        return {
            "always, start": self.start["always"],
            "never, start": self.start["never"],
            "ellipsis, start": self.start["auto"],
            "learned": self.learned["auto"],
        }

    @property
    def figures(self) -> dict[str, float]:
        """Numbers that sum up the run, against the start that always thinks, as far as they are defined."""
        always, never, now = (
            Point(one.accuracy, one.tokens)
            for one in (self.start["always"], self.start["never"], self.learned["auto"])
        )
        found = {
            "tokens saved": 1 - now.tokens / always.tokens,
            "accuracy gained": now.accuracy - always.accuracy,
            "think slope": self.learned["auto"].think_slope,
            "router gain": self.router_gain,
        }
        if always.accuracy > never.accuracy and always.tokens > never.tokens:
            found["E-F1"] = e_f1(now, always, never)
        return {**found, "AES": aes(now, always)} if always.accuracy else found

    @property
    def router_gain(self) -> float:
        """Accuracy above that of the same model thinking as often, at random."""
        now = self.learned["auto"]
        thinking, answering = self.learned["always"].accuracy, self.learned["never"].accuracy
        return now.accuracy - (now.think * thinking + (1 - now.think) * answering)

    @property
    def verdict(self) -> str:
        """One sentence: what learning changed."""
        always, now = self.start["always"], self.learned["auto"]
        saved = 1 - now.tokens / always.tokens
        gained, longer = now.more_right_than(always), now.longer_than(always)
        kept = f"at {now.accuracy - always.accuracy:+.1%} accuracy"
        if not gained.excludes(0):
            points = Interval(*(100 * end for end in gained)).written(1)
            kept = f"no difference in accuracy shown ({points} points, 95 %)"
        tokens = f"{saved:.0%} fewer tokens than" if saved > 0 else f"{-saved:.0%} more tokens than"
        if saved == 0 or (longer and not longer.excludes(0)):
            tokens = "no difference in tokens shown from"
        rate = f"it thinks {now.think:.0%} of the time, {now.think_slope:+.0%} from easy to hard problems"
        return f"{tokens} always thinking, {kept}; {rate}.".capitalize()

    @property
    def derived(self) -> dict[str, Any]:
        """The figures, and the verdict."""
        return {"figures": self.figures, **super().derived}

    def render(self, console: Console) -> None:
        """Print how often it is right, how long it takes and how often it thinks, and the verdict."""
        console.print(examination_table(self.examinations))
        console.print(self.verdict, soft_wrap=True)
        closer = f"Look closer: prunepolicy eval {self.folder} --think auto"
        console.print(closer, soft_wrap=True)


@dataclass(frozen=True)
class ThinkSeedsReport(RunsReport[ThinkReport]):
    """The result of several runs that differ in their seed."""

    name: str
    folder: str
    runs: tuple[ThinkReport, ...]

    @property
    def figures(self) -> dict[str, list[float]]:
        """Every number that all runs have."""
        found = [run.figures for run in self.runs]
        return {name: [each[name] for each in found] for name in found[0] if all(name in f for f in found)}

    def to_json(self) -> str:
        """Return the report as JSON text."""
        runs = [json.loads(run.to_json()) for run in self.runs]
        data = {"name": self.name, "folder": self.folder, "figures": self.figures, "runs": runs}
        return json.dumps(data, indent=1, sort_keys=True) + "\n"

    def render(self, console: Console) -> None:
        """Print medians and ranges over the seeds."""
        grid = Table(title=f"{len(self.runs)} seeds")
        for heading in ("", "median", "lowest", "highest"):
            grid.add_column(heading, justify="left" if not heading else "right")
        for name, values in self.figures.items():
            grid.add_row(name, *(f"{value:.3f}" for value in (median(values), min(values), max(values))))
        console.print(grid)
        for run in self.runs:
            console.print(f"seed {run.recipe['seed']}: {run.verdict}", soft_wrap=True)
        console.print(f"The model of seed {self.chosen.recipe['seed']} is kept as the best.")


def examination_table(examinations: dict[str, ThinkEval]) -> Table:
    """Return a table with a row per think_eval, think rates by difficulty at its end."""
    grid = Table(title="Held-out problems")
    levels = [one.difficulty for one in next(iter(examinations.values())).bins]
    for heading in ("", "accuracy", "tokens", "thinks", *(f"at {level}" for level in levels)):
        grid.add_column(heading, justify="right" if heading else "left")
    for name, one in examinations.items():
        shares = [f"{bin_.think:.0%}" for bin_ in one.bins]
        grid.add_row(name, f"{one.accuracy:.1%}", f"{one.tokens:.1f}", f"{one.think:.0%}", *shares)
    return grid
