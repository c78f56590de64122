"""What a router came to on prompts that it never saw: beside every budget, the best mix, and an oracle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from rich.table import Table

from prunepolicy.agents.runtime.plotting import BLUE, GREEN, GREY, ORANGE, finish, picture
from prunepolicy.agents.thinking.router.fit import LearnedRouter, RouterFit
from prunepolicy.agents.thinking.router.outcomes import BudgetValue
from prunepolicy.policy.routing.controls.registry import ThinkBudget
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.measure.intervals import Interval

REPORT, PICTURE = "router_report.json", "router.png"
ROUTER, MIX, ORACLE = "router", "best mix of two, at the router's price", "oracle, at the router's price"


@dataclass(frozen=True)
class RouterReport:
    """The result of a fit; everything on held-out prompts, intervals of 95 % over them.

    Attributes:
        folder: of the router.
        model: the served model.
        price: what prices are counted in.
        prompts, held_out: how many were learned from, and how many not.
        asked, kept: shares of the most accurate budget's accuracy.
        reference: the budget that was most accurate where the router learned.
        values: by way to choose budgets.
        rates: how often the router chooses each budget.
        lost: accuracy of the router less that of the reference.
        saved: share of the reference's price that the router saves.
        gain: accuracy of the router less that of the best mix at its price.
        covered: of the way from the best mix to the oracle; None where there is none to go.
    """

    folder: str
    model: str
    price: str
    prompts: int
    held_out: int
    asked: float
    kept: float
    reference: str
    values: dict[str, BudgetValue]
    rates: dict[str, float]
    lost: Interval
    saved: Interval
    gain: Interval
    covered: float | None

    @classmethod
    def of(
        cls, fit: RouterFit, router: LearnedRouter, budgets: Sequence[ThinkBudget], asked: float, **more: str
    ) -> Self:
        """Compare on the held-out prompts of a fit."""
        seen = fit.held_out
        chosen, reference = router.chances(seen), seen.always(fit.reference)
        price = seen.value(chosen).price
        ways = {f"always {budget}": seen.always(place) for place, budget in enumerate(budgets)}
        ways |= {MIX: seen.best_mix(price), ROUTER: chosen, ORACLE: seen.oracle(price)}
        values = {name: seen.value(chances) for name, chances in ways.items()}
        lost, dearer = seen.difference(chosen, reference)
        whole = max(seen.value(reference).price, 1e-9)
        way = values[ORACLE].accuracy - values[MIX].accuracy
        return cls(
            prompts=len(fit.train),
            held_out=len(seen),
            asked=asked,
            kept=fit.kept(router),
            reference=str(budgets[fit.reference]),
            values=values,
            rates=dict(zip(map(str, budgets), chosen.mean(0).tolist(), strict=True)),
            lost=lost,
            saved=Interval(-dearer.high / whole, -dearer.low / whole),
            gain=seen.difference(chosen, ways[MIX])[0],
            covered=(values[ROUTER].accuracy - values[MIX].accuracy) / way if way > 0 else None,
            **more,
        )

    @property
    def verdict(self) -> str:
        """One sentence: what is kept, what is saved, and whether choosing per prompt has a part in it."""
        ours, whole = self.values[ROUTER], self.values[f"always {self.reference}"]
        saved = 1 - ours.price / whole.price if whole.price else 0.0
        won = ours.accuracy - self.values[MIX].accuracy
        shown = "" if self.gain.excludes(0) else " (no difference shown)"
        return (
            f"Keeps {self.kept:.1%} of the accuracy of always {self.reference} and saves {saved:.0%} of its "
            f"{self.price}; {100 * won:+.1f} points of accuracy over the best mix of two budgets at the same "
            f"price{shown}."
        )

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps({**asdict(self), "verdict": self.verdict}, indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print the value of every way to choose, how often each budget is chosen, and the verdict."""
        grid = Table(title=f"{self.held_out} held-out prompts, intervals of 95 %", title_justify="left")
        for heading in ("", "accuracy", f"{self.price} an answer"):
            grid.add_column(heading, justify="right" if heading else "left")
        for name, value in self.values.items():
            right = f"{value.accuracy:.1%} ({_percent(value.accuracy_interval)})"
            grid.add_row(name, right, f"{value.price:,.4g} ({value.price_interval.written(0)})")
        console.print(grid)
        rates = ", ".join(f"{budget}: {rate:.0%}" for budget, rate in self.rates.items())
        saved, lost = self.saved, self.lost
        console.print(f"Budgets chosen: {rates}.", soft_wrap=True)
        console.print(
            f"Intervals: accuracy {_percent(lost)} beside always {self.reference}, {_percent(saved)} of the "
            f"{self.price} saved, accuracy {_percent(self.gain)} beside the best mix.",
            soft_wrap=True,
        )
        console.print(self.verdict, soft_wrap=True)


def plot_router(fit: RouterFit, router: LearnedRouter, report: RouterReport, path: Path) -> None:
    """Draw accuracy over price on held-out prompts: budgets and their mixes, routers, the oracle."""
    seen = fit.held_out
    with picture(path, (7.2, 4.2)) as axes:
        means = seen.price.mean(0)
        prices = np.linspace(means.min(), means.max(), 60)
        lines = {
            "mixes of two budgets": (GREY, "--", [seen.best_mix(price) for price in prices]),
            "routers": (BLUE, "-", [each.chances(seen) for each in fit.frontier()]),
            "oracle": (GREEN, ":", [seen.oracle(price) for price in prices]),
        }
        for name, (colour, style, ways) in lines.items():
            points = sorted({(value.price, value.accuracy) for value in map(seen.value, ways)})
            axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=1.2, label=name)
        for name, value in report.values.items():
            if name.startswith("always "):
                axes.plot(value.price, value.accuracy, "o", color=GREY)
                label = name.removeprefix("always ")
                where = (value.price, value.accuracy)
                axes.annotate(label, where, (0, -14), textcoords="offset points", ha="center")
        ours = report.values[ROUTER]
        error = abs(np.array([ours.accuracy_interval]).T - ours.accuracy)
        axes.errorbar(ours.price, ours.accuracy, error, fmt="s", color=ORANGE, capsize=3, label="this router")
        title = f"{report.held_out} held-out prompts"
        axes.set(xlabel=f"{report.price} an answer", ylabel="accuracy", title=title)
        finish(axes, list(lines))


def _percent(interval: Interval) -> str:
    return f"{Interval(100 * interval.low, 100 * interval.high).written(1)} %"
