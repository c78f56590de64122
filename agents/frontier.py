"""One scoring pass, many sizes: nested plans, their cost and quality, a table and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prunepolicy.agents.plots import FrontierPoint, plot_frontier
from prunepolicy.agents.prune import Settings
from prunepolicy.agents.quality import text_scorer
from prunepolicy.agents.report_view import count
from prunepolicy.agents.subject import Subject
from prunepolicy.policy.base import Instruments, Policy
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.atomic import check_target, partial_folder, publish, write_text
from prunepolicy.pruning.claim import claiming
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.gates import masked
from prunepolicy.pruning.plan import Budget, Plan


@dataclass(frozen=True)
class FrontierRow:
    """One size on the frontier.

    Attributes:
        params: share of the parameters that stays.
        flops: share of the operations that stays.
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

    def to_json(self) -> str:
        """Return the frontier as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print the table and where the files are."""
        table = Table("keep", "parameters", "operations", "perplexity", "plan", box=None, pad_edge=False)
        table.add_row("1", count(self.total), "100.0%", f"{self.dense:.4g}", "")
        for row in self.rows:
            size = count(row.params * self.total)
            table.add_row(f"{row.keep:g}", size, f"{row.flops:.1%}", f"{row.perplexity:.4g}", row.plan)
        console.print(table)
        console.print(f"Perplexity right after cutting, without repair, on {self.text}.", highlight=False)
        console.print(
            f"Plot: {self.folder}/frontier.png. "
            f"Cut a point: prunepolicy cut {self.model} {self.folder}/PLAN --out DIR"
        )


def draw_frontier(
    subject: Subject, policy: str | Policy, budgets: Sequence[Budget], target: Path, settings: Settings
) -> Frontier:
    """Score once and plan every budget, each inside the one before; write plans, table and plot.

    Raises:
        UnsupportedModelError: for models that don't write text, which have no perplexity.
    """
    check_target(target, settings.overwrite)
    if subject.checkpoint.adapter.task != "causal":
        raise UnsupportedModelError("A frontier needs a model that writes text.")
    policy = load_policy(policy) if isinstance(policy, str) else policy
    plans = nested_plans(subject, policy, budgets, settings)
    with subject.steps.step("measure quality", len(plans) + 1) as tick:
        text, score = text_scorer(subject, settings.text)
        dense = score(subject.model).perplexity
        tick(1)
        rows = []
        for plan in plans:
            with masked(subject.model, subject.checkpoint.graph, plan):
                rows.append(_point(subject, plan, score(subject.model).perplexity))
            tick(1)
    graph = subject.checkpoint.graph
    frontier = Frontier(
        subject.name, policy.name, budgets[0].of, dense, cost_of(graph).params, text, str(target), tuple(rows)
    )
    with claiming(target):
        folder = partial_folder(target)
        for plan, row in zip(plans, rows, strict=True):
            plan.save(folder / row.plan)
        write_text(folder / "frontier.json", frontier.to_json())
        drawn = [FrontierPoint(row.params, row.perplexity, policy.name) for row in rows]
        plot_frontier(drawn, folder / "frontier.png", dense)
    publish(folder, target)
    return frontier


def nested_plans(
    subject: Subject, policy: Policy, budgets: Sequence[Budget], settings: Settings
) -> list[Plan]:
    """Return one plan per budget from one scoring pass, the largest first, each within the last."""
    probe = replace(policy.probe, seed=settings.seed)
    if settings.probe:
        probe = replace(probe, source=settings.probe)
    graph = subject.checkpoint.graph
    stats = subject.stats(policy.needs(graph, budgets[0]), probe)
    plans: list[Plan] = []
    with subject.steps.step("plan every size", len(budgets)) as tick:
        for budget in sorted(budgets, key=lambda budget: -budget.keep):
            within = plans[-1] if plans else None
            plan = policy.plan(graph, stats, budget, Instruments(within=within))
            plans.append(replace(plan, fingerprint=subject.checkpoint.fingerprint))
            tick(1)
    return plans


def _point(subject: Subject, plan: Plan, perplexity: float) -> FrontierRow:
    graph = subject.checkpoint.graph
    before, after = cost_of(graph), cost_of(graph, plan.keep)
    name = f"plan-{plan.budget.keep:g}.json"
    return FrontierRow(
        plan.budget.keep, after.params / before.params, after.flops / before.flops, perplexity, name
    )
