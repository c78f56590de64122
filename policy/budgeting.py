"""Meet a budget with scores: which units may go, which are left, and how many of the best stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prunepolicy.policy.base import Instruments
from prunepolicy.pruning.allocators import Task, allocate, allocators
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.reach import check_reachable, least
from prunepolicy.pruning.units import Keep, UnitGraph, UnitGroup

FREE_KINDS = ("ffn", "kv_head", "query_head", "expert", "channel")
"""Kinds of unit that may go together where layers may differ."""
MAIN_KINDS = ("ffn", "expert", "channel", "layer")
"""Kinds of unit of which the first that a network has goes where all layers stay alike."""
NEXT_TO_NOTHING = 1e-9
"""A share that no network gets down to."""


def searched_groups(graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
    """Return the groups that may lose units: those the budget names, or what suits its shape.

    Raises:
        UsageError: when the network has none of them.
    """
    main = main_kind(graph)
    return groups_of(graph, budget, budget.kinds or (main if budget.uniform else (*FREE_KINDS, *main)))


def main_kind(graph: UnitGraph) -> tuple[str, ...]:
    """Return the kind of unit that every budget may take from; nothing for a network without any."""
    return next(((kind,) for kind in MAIN_KINDS if kind in graph.kinds), ())


def groups_of(graph: UnitGraph, budget: Budget, kinds: tuple[str, ...]) -> tuple[UnitGroup, ...]:
    """Return the groups of some kinds.

    Raises:
        UsageError: when the network has none of them.
    """
    groups = graph.of_kind(*kinds)
    if not groups:
        raise UsageError(f"This {graph.family} network has no {budget.of} to prune.")
    return groups


def task_for(
    graph: UnitGraph,
    scores: Mapping[str, Tensor],
    budget: Budget,
    instruments: Instruments,
    comparable: bool,
) -> Task:
    """Return what an allocator needs to know; what an outer plan has removed can't stay.

    Args:
        scores: per group one number per unit, higher means keep; other groups stay whole.
        comparable: scores may be added and compared across groups.
    """
    return Task(
        graph,
        tuple(_as_asked(graph[name], budget) for name in scores),
        without_removed(scores, instruments.within, graph),
        budget,
        meter_for(graph, budget, instruments.seconds),
        comparable,
    )


def _as_asked(group: UnitGroup, budget: Budget) -> UnitGroup:
    """Return the group, whose units go one by one where the budget says by how many they may."""
    return group if budget.multiple_of is None else replace(group, period=1)


def unscored(
    graph: UnitGraph,
    groups: Sequence[UnitGroup],
    budget: Budget,
    instruments: Instruments | None,
    comparable: bool,
) -> Task:
    """Return the task of a policy that doesn't know any unit yet."""
    nothing = {group.name: torch.zeros(group.size) for group in groups}
    return task_for(graph, nothing, budget, instruments or Instruments(), comparable)


def check_spendable(task: Task, kinds: Sequence[str] = (), allocator: str = "global_rank") -> None:
    """Raise where `spend` would, whatever the scores are.

    Args:
        kinds: of unit that the policy could take, were it asked to; empty for all.

    Raises:
        UsageError: when the allocator can't compare the scores.
        BudgetError: when nothing within the budget can be reached.
    """
    chosen = _allocator_of(task, allocator)
    check_reachable(task.graph, task.groups, task.budget, lambda groups: _least(task, groups, chosen), kinds)
    if not task.comparable and not any(group.prefix for group in task.groups):
        allocate(chosen, task)


def _allocator_of(task: Task, allocator: str) -> str:
    """Return the name of what spends a budget; `allocator` is for widths that may differ."""
    return "uniform" if task.budget.uniform else allocator


def _least(task: Task, groups: Sequence[UnitGroup], allocator: str) -> float:
    """Return the smallest share that an allocator leaves when `groups` may lose units."""
    multiple = task.budget.multiple_of or 1
    if allocator == "uniform":
        return task.meter(least(groups, multiple))
    scores = {group.name: task.scores.get(group.name, torch.zeros(group.size)) for group in groups}
    nothing = replace(task.budget, keep=NEXT_TO_NOTHING)
    smaller = replace(task, groups=tuple(groups), scores=scores, budget=nothing)
    return task.meter(allocators[allocator](smaller, multiple))


def spend(task: Task, allocator: str = "global_rank") -> dict[str, tuple[int, ...]]:
    """Let an allocator keep the best units, and return the groups that lose any.

    Args:
        allocator: name of the one for per-layer budgets; others are spent by `uniform`.

    Raises:
        BudgetError: when nothing within the budget can be reached.
    """
    return shrunk(allocate(_allocator_of(task, allocator), task), task.graph)


def without_removed(scores: Mapping[str, Tensor], plan: Plan | None, graph: UnitGraph) -> dict[str, Tensor]:
    """Give units that `plan` has removed the score minus infinity."""
    if plan is None:
        return dict(scores)
    remaining = {}
    for name, score in scores.items():
        kept = list(plan.kept(graph[name]))
        remaining[name] = torch.full_like(score, -torch.inf)
        remaining[name][kept] = score[kept]
    return remaining


def shrunk(keep: Keep, graph: UnitGraph) -> dict[str, tuple[int, ...]]:
    """Return only the groups that lose units."""
    return {name: tuple(units) for name, units in keep.items() if len(units) < graph[name].size}
