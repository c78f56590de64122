"""One ranking over all layers by the score itself, whatever a unit costs; no layer is squeezed shut.

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", global ranking; the floor is ours.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import replace

from torch import Tensor

from prunepolicy.pruning.allocators.global_rank import Counts, around_budget, check_comparable, used_by
from prunepolicy.pruning.allocators.registry import Task, allocator, count_grid, kept_by_score
from prunepolicy.pruning.units import UnitGroup

LEAST = 0.1
"""Share of every group that stays."""


@allocator
def global_score(task: Task, multiple: int) -> dict[str, tuple[int, ...]]:
    """Remove the units of lowest score until the budget is met.

    Raises:
        UsageError: when the scores can't be compared across layers.
    """
    check_comparable(task)
    floored = replace(task, groups=tuple(_floored(group) for group in task.groups))
    _, counts = around_budget(floored, multiple, task.scores)
    counts = _refilled(floored, counts, multiple)
    return {g.name: kept_by_score(g, task.scores[g.name], counts[g.name]) for g in task.groups}


def _refilled(task: Task, counts: Counts, multiple: int) -> Counts:
    """Let the best of what went come back as long as it fits: the last to go may have been too much."""
    grids = {group.name: count_grid(task, group, multiple) for group in task.groups}
    while not task.spends(used_by(task, counts)):
        more = [name for name, grid in grids.items() if counts[name] < grid[-1]]
        more.sort(key=lambda name: -_best_gone(task.scores[name], counts[name]))
        larger = (counts | {name: _next(grids[name], counts[name])} for name in more)
        fits = next((new for new in larger if task.fits(used_by(task, new))), None)
        if fits is None:
            break
        counts = fits
    return counts


def _next(grid: list[int], count: int) -> int:
    return grid[bisect.bisect_right(grid, count)]


def _best_gone(scores: Tensor, count: int) -> float:
    """Return the best score among units that go when `count` stay."""
    return float(scores.sort(descending=True).values[count])


def _floored(group: UnitGroup) -> UnitGroup:
    return replace(group, floor=max(group.floor, math.ceil(LEAST * group.size)))
