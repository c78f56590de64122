"""One scoring pass, many sizes: nested plans, their cost and quality, a table and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.table import Table

from prunepolicy.agents.runtime.html_page import framed
from prunepolicy.commands.prune.frontier_page import frontier_page, write_frontier_page
from prunepolicy.commands.prune.job import PruneSettings, holding, open_session, probe_for
from prunepolicy.commands.prune.measure import choose_text
from prunepolicy.commands.report.plots import FRONTIER_PICTURE, FrontierPoint, plot_frontier
from prunepolicy.commands.report.report import DEGRADED
from prunepolicy.commands.report.report_page import PAGE
from prunepolicy.commands.report.report_view import count
from prunepolicy.policy.base import Instruments, Policy
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import UnsupportedModelError, UsageError
from prunepolicy.pruning.io.atomic import replace_folder, write_text
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.units import VOCABULARY


@dataclass(frozen=True)
class FrontierRow:
    """One size on the frontier.

    Attributes:
        params: share of the parameters that stays.
        flops: share of the FLOPs per token that stays.
        perplexity: right after cutting, without repair.
        plan: file name of its plan.
    """

    keep: float
    params: float
    flops: float
    perplexity: float
    plan: str


@dataclass(frozen=True)
class Frontier:
    """Nested plans of one model and what they cost and keep.

    Attributes:
        dense: perplexity of the whole model.
        text: what the perplexities were taken on.
        total: parameters of the whole model.
    """

    model: str
    made_by: str
    of: str
    dense: float
    total: int
    text: str
    folder: str
    rows: tuple[FrontierRow, ...]

    @property
    def smallest_good(self) -> FrontierRow | None:
        """The smallest size whose perplexity isn't called degraded; None where every size's is."""
        good = [row for row in self.rows if row.perplexity <= DEGRADED * self.dense]
        return min(good, key=lambda row: row.params, default=None)

    def to_json(self) -> str:
        """Return the frontier as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def _repr_html_(self) -> str:
        """Return what notebooks show: the page that lies in the frontier's folder."""
        return framed(frontier_page(self, ""))

    def render(self, console: Console) -> None:
        """Print the table and where the files are."""
        table = Table("keep", "parameters", "FLOPs", "perplexity", "plan", box=None, pad_edge=False)
        table.add_row("1", count(self.total), "100.0%", f"{self.dense:.4g}", "")
        for row in self.rows:
            size = count(row.params * self.total)
            table.add_row(f"{row.keep:g}", size, f"{row.flops:.1%}", f"{row.perplexity:.4g}", row.plan)
        console.print(table)
        console.print(f"Perplexity right after cutting, without repair, on {self.text}.")
        console.print(
            f"Report: {self.folder}/{PAGE}. Plot: {self.folder}/{FRONTIER_PICTURE}. "
            f"Cut a point: prunepolicy cut {self.model} {self.folder}/PLAN --out DIR",
            soft_wrap=True,
        )


KEEPS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
"""Points of a frontier, as shares that stay."""


def frontier(
    model: str,
    out: str | Path,
    keeps: Sequence[float | Budget] = KEEPS,
    policy: str | Policy = "default",
    settings: PruneSettings | None = None,
) -> Frontier:
    """Plan every size from one pass of statistics, and write nested plans, a table and a plot to `out`.

    Raises:
        PrunePolicyError: with one sentence, for whatever goes wrong; `out` is untouched then.
    """
    settings, target = settings or PruneSettings(), Path(out)
    budgets = [keep if isinstance(keep, Budget) else Budget(keep) for keep in keeps]
    return draw_frontier(open_session(model, settings, target), policy, budgets, target, settings)


def draw_frontier(
    session: ModelSession,
    policy: str | Policy,
    budgets: Sequence[Budget],
    target: Path,
    settings: PruneSettings,
) -> Frontier:
    """Score once and plan every budget, each inside the one before; write plans, table and plot.

    Raises:
        UnsupportedModelError: for models that don't write text, which have no perplexity.
    """
    with holding(target, settings.overwrite):
        if session.checkpoint.adapter.task != "causal":
            raise UnsupportedModelError("A frontier needs a causal language model.")
        policy = load_policy(policy) if isinstance(policy, str) else policy
        for budget in budgets:
            if VOCABULARY in budget.kinds:
                raise UsageError(
                    "A frontier is measured before the cut, where texts have all their tokens; for the "
                    "vocabulary, prune to several sizes: prune-with-policy MODEL --keep 0.95,0.9."
                )
            policy.check(session.checkpoint.graph, budget, Instruments(seconds=session.seconds(budget)))
        session.progress.outline(("text", "plan", "measure"))
        with session.progress.part("text"):
            text = choose_text(session, settings.text)
        assert text is not None  # None is for models that don't write.
        with session.progress.part("plan"):
            plans = nested_plans(session, policy, budgets, settings)
        with (
            session.progress.part("measure"),
            session.progress.step("measure perplexity", len(plans) + 1) as tick,
        ):
            dense = text.score(session.model).perplexity
            tick(1)
            rows = []
            for plan in plans:
                with masked(session.model, session.checkpoint.graph, plan):
                    rows.append(_point(session, plan, text.score(session.model).perplexity))
                tick(1)
        params = cost_of(session.checkpoint.graph).params
        frontier = Frontier(
            session.name, policy.name, budgets[0].of, dense, params, text.name, str(target), tuple(rows)
        )
        _publish(frontier, plans, target, settings.command)
    return frontier


def _publish(frontier: Frontier, plans: Sequence[Plan], target: Path, command: str) -> None:
    """Write plans, table, plot and page to `target`, all or none."""

    def write(folder: Path) -> None:
        for plan, row in zip(plans, frontier.rows, strict=True):
            plan.save(folder / row.plan)
        write_text(folder / "frontier.json", frontier.to_json())
        drawn = [FrontierPoint(row.params, row.perplexity, frontier.made_by) for row in frontier.rows]
        plot_frontier(drawn, folder / FRONTIER_PICTURE, frontier.dense)
        write_frontier_page(frontier, command, folder)

    replace_folder(target, write)


def nested_plans(
    session: ModelSession, policy: Policy, budgets: Sequence[Budget], settings: PruneSettings
) -> list[Plan]:
    """Return one plan per budget from one scoring pass, the largest first, each within the last."""
    graph, seconds = session.checkpoint.graph, session.seconds(budgets[0])
    stats = session.stats(policy.needs(graph, budgets[0]), probe_for(policy, settings))
    stats = stats.merged(policy.read(session.checkpoint))
    plans: list[Plan] = []
    with session.progress.step("plans", len(budgets)) as tick:
        for budget in sorted(budgets, key=lambda budget: -budget.keep):
            within = plans[-1] if plans else None
            plan = policy.plan(graph, stats, budget, Instruments(seconds=seconds, within=within))
            plans.append(replace(plan, fingerprint=session.checkpoint.fingerprint))
            tick(1)
    return plans


def _point(session: ModelSession, plan: Plan, perplexity: float) -> FrontierRow:
    graph = session.checkpoint.graph
    before, after = cost_of(graph), cost_of(graph, plan.keep)
    name = f"plan-{plan.budget.keep:g}.json"
    return FrontierRow(
        plan.budget.keep, after.params / before.params, after.flops / before.flops, perplexity, name
    )
