"""A plan on a terminal: what was recognised, what goes per layer, and what that will take."""

from __future__ import annotations

from itertools import groupby

from rich.table import Table

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.commands.doctor.resource_estimate import estimate_resources
from prunepolicy.commands.report.report_view import count, rounding, size
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.per_layer import who_can_load
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.io.console import Console, styled
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import KIND_NAMES, UnitGraph, UnitGroup


def render_plan(name: str, checkpoint: Checkpoint, plan: Plan, console: Console) -> None:
    """Print the model, the plan layer by layer (equal layers in one row), and its price."""
    graph = checkpoint.graph
    before, after = cost_of(graph), cost_of(graph, plan.keep)
    console.print(
        styled(
            (name, "bold"),
            f": {graph.family}, {count(before.params)} parameters, {size(before.weight_bytes)}, "
            f"{len(checkpoint.files)} file{'s' * (len(checkpoint.files) > 1)}",
        )
    )
    console.print(styled((str(plan.budget), "bold"), f", decided by {plan.decided_by}"))
    if plan.budget.of != "latency":  # What a width costs in seconds is measured, not counted.
        if sentence := rounding(plan.budget, meter_for(graph, plan.budget)(plan.keep)):
            console.print(sentence)
    console.print(_table(graph, plan))
    repair = f", then repair: {plan.repair}" if plan.repair else ""
    if plan.settings.get("recover"):
        repair += f", then knowledge distillation: {RecoveryBudget.parse(str(plan.settings['recover']))}"
    console.print(
        f"Parameters {count(before.params)} → {count(after.params)} ({after.params / before.params:.1%}), "
        f"FLOPs {after.flops / before.flops:.1%}, disk {size(after.weight_bytes)}{repair}.",
    )
    console.print(estimate_resources(checkpoint, after.params, after.weight_bytes).sentence)
    for sentence in who_can_load(graph, plan):
        console.print(sentence, style="dim")


def _table(graph: UnitGraph, plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    for header in ("layers", "what", "before", "after", "kept"):
        table.add_column(header, justify="left" if header in ("layers", "what") else "right")
    for kind in graph.kinds:
        groups = [group for group in graph.of_kind(kind) if group.name in plan.keep]
        for kept, run in groupby(groups, key=lambda group: (group.size, len(plan.kept(group)))):
            before, after = kept
            table.add_row(
                _layers(list(run)), KIND_NAMES[kind], str(before), str(after), f"{after / before:.1%}"
            )
    return table


def _layers(groups: list[UnitGroup]) -> str:
    first, last = groups[0], groups[-1]
    if first.layer is None or last.layer is None:
        return first.name
    return str(first.layer) if first.layer == last.layer else f"{first.layer}-{last.layer}"
