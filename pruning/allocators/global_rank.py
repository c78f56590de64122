"""One ranking over all layers: units go in order of score per parameter or operation, widths differ."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from prunepolicy.pruning.allocators.registry import (
    TOLERANCE,
    Task,
    allocator,
    count_grid,
    kept_by_score,
    priced_like,
)
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.statistics.stats import group_costs

Counts = dict[str, int]
"""Group name to the number of units that stay."""
NONE: Mapping[str, int] = MappingProxyType({})


@allocator
def global_rank(task: Task, multiple: int) -> dict[str, tuple[int, ...]]:
    """Remove the cheapest units, score per parameter, until the budget is met; for operations, per operation.

    Where the last to go is a whole layer, an expert or another unit of more than 1 % of the network, and
    takes too much with it, it stays, and smaller units go on.

    Raises:
        UsageError: when the scores can't be compared across layers.
    """
    check_comparable(task)
    density = {g.name: task.scores[g.name] / group_costs(task.graph, g, task.budget.of) for g in task.groups}
    before, counts = around_budget(task, multiple, density)
    coarse = TOLERANCE * cost_of(task.graph).params
    large = {g.name: before[g.name] for g in task.groups if g.prefix or group_costs(task.graph, g) > coarse}
    if 0 < len(large) < len(task.groups) and not task.spends(used_by(task, counts)):
        _, others = around_budget(task, multiple, density, large)
        counts = others if task.fits(used_by(task, others)) else counts
    return {g.name: kept_by_score(g, task.scores[g.name], counts[g.name]) for g in task.groups}


def check_comparable(task: Task) -> None:
    """Raise `UsageError` when the scores can't be compared across layers."""
    if not task.comparable and len(task.groups) > 1:
        raise UsageError(
            "This criterion's scores can't be compared across layers: leave out --per-layer, or use "
            "--policy fisher or taylor."
        )


def around_budget(
    task: Task, multiple: int, ranks: Mapping[str, Tensor], fixed: Mapping[str, int] = NONE
) -> tuple[Counts, Counts]:
    """Return the last counts above the budget and the first within, where units go one by one.

    Args:
        ranks: per group one number per unit; the lowest of all goes first.
        fixed: counts of groups that take no part.
    """
    thresholds = torch.cat([scores for name, scores in ranks.items() if name not in fixed])
    thresholds = thresholds[thresholds > -torch.inf].unique(sorted=True)

    def at(index: int) -> Counts:
        bar = float(thresholds[index]) if index < len(thresholds) else math.inf
        return _above(task, ranks, bar, multiple) | dict(fixed)

    low, high = 0, len(thresholds)  # number of thresholds below which units go
    while low < high:
        middle = (low + high) // 2
        fits = task.fits(used_by(task, at(middle)))
        low, high = (low, middle) if fits else (middle + 1, high)
    return at(max(0, low - 1)), at(low)


def used_by(task: Task, counts: Counts) -> float:
    """Return the share of the budget's measure that is left with so many units of each group."""
    return task.meter({g.name: priced_like(task, g, counts[g.name]) for g in task.groups})


def _above(task: Task, ranks: Mapping[str, Tensor], bar: float, multiple: int) -> Counts:
    """Count what reaches `bar`, rounded up to the allowed grid."""
    counts = {}
    for group in task.groups:
        grid = count_grid(task, group, multiple)
        wanted = int((ranks[group.name] >= bar).sum())
        counts[group.name] = grid[bisect.bisect_left(grid, wanted)]
    return counts
