"""One ranking over all layers: units go in order of score per parameter, widths differ by layer."""

from __future__ import annotations

import bisect

import torch
from torch import Tensor

from prunepolicy.pruning.allocators.registry import Task, allocator, count_grid, kept_by_score, priced_like
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.stats import group_costs


@allocator
def global_rank(task: Task, multiple: int) -> dict[str, tuple[int, ...]]:
    """Remove the cheapest units, score per parameter, until the budget is met.

    Raises:
        UsageError: when the scores can't be compared across layers.
    """
    if not task.comparable and len(task.groups) > 1:
        raise UsageError(
            "This criterion's scores can't be compared across layers: leave out --per-layer, or use "
            "--policy fisher or taylor."
        )
    density = {g.name: task.scores[g.name] / group_costs(task.graph, g) for g in task.groups}
    thresholds = torch.cat(list(density.values()))
    thresholds = thresholds[thresholds > -torch.inf].unique(sorted=True)
    low, high = 0, len(thresholds)  # number of thresholds below which units go
    while low < high:
        middle = (low + high) // 2
        counts = _above(task, density, thresholds, middle, multiple)
        cost = task.meter({g.name: priced_like(task, g, counts[g.name]) for g in task.groups})
        low, high = (low, middle) if cost <= task.budget.keep + 1e-12 else (middle + 1, high)
    counts = _above(task, density, thresholds, low, multiple)
    return {g.name: kept_by_score(g, density[g.name], counts[g.name]) for g in task.groups}


def _above(
    task: Task, density: dict[str, Tensor], thresholds: Tensor, index: int, multiple: int
) -> dict[str, int]:
    """Count what reaches the `index`-th threshold, rounded up to the allowed grid."""
    bar = thresholds[index] if index < len(thresholds) else torch.inf
    counts = {}
    for group in task.groups:
        grid = count_grid(task, group, multiple)
        wanted = int((density[group.name] >= bar).sum())
        counts[group.name] = grid[bisect.bisect_left(grid, wanted)]
    return counts
