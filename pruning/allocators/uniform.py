"""Equal counts in all layers, so that a stock configuration can say them and plain runtimes load."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from prunepolicy.pruning.allocators.registry import (
    Task,
    alive,
    allocator,
    count_grid,
    kept_by_score,
    removed_score,
)
from prunepolicy.pruning.units import UnitGroup


@allocator
def uniform(task: Task, multiple: int) -> dict[str, tuple[int, ...]]:
    """Choose one count per configuration key.

    The key with the finest grid (FFN width) is solved for the budget; all counts of the others
    (heads, layers) are tried when scores are comparable, and the choice that removes the smallest
    sum of scores wins. Without comparable scores the others are touched only when the finest grid
    alone can't meet the budget.
    """
    ties = _ties(task)
    grids = {
        tie: count_grid(groups[0], min(alive(task.scores[g.name]) for g in groups), multiple)
        for tie, groups in ties.items()
    }
    finest = max(grids, key=lambda tie: len(grids[tie]))
    others = [tie for tie in grids if tie != finest]
    best: tuple[tuple[bool, float], dict[str, tuple[int, ...]]] | None = None
    for counts in _other_counts(others, grids):
        keep = _solve(task, ties, counts, finest, grids[finest])
        over = task.meter(keep) > task.budget.keep + 1e-12
        rank = (over, removed_score(task, keep) if task.comparable else 0.0)
        if best is None or rank < best[0]:
            best = (rank, keep)
        if not task.comparable and not over:
            break
    assert best is not None
    return best[1]


def _ties(task: Task) -> dict[str, list[UnitGroup]]:
    ties: dict[str, list[UnitGroup]] = {}
    for group in task.groups:
        ties.setdefault(group.tie, []).append(group)
    return ties


def _other_counts(others: list[str], grids: dict[str, list[int]]) -> Iterator[dict[str, int]]:
    """Yield every combination of counts, those that remove least first."""
    for counts in itertools.product(*(reversed(grids[tie]) for tie in others)):
        yield dict(zip(others, counts, strict=True))


def _solve(
    task: Task, ties: dict[str, list[UnitGroup]], counts: dict[str, int], finest: str, grid: list[int]
) -> dict[str, tuple[int, ...]]:
    """Return the largest count of `finest` within the budget, beside the given other counts."""

    def keep_at(count: int) -> dict[str, tuple[int, ...]]:
        chosen = {**counts, finest: count}
        return {
            group.name: kept_by_score(group, task.scores[group.name], chosen[tie])
            for tie, groups in ties.items()
            for group in groups
        }

    low, high = 0, len(grid) - 1
    if task.meter(keep_at(grid[high])) <= task.budget.keep + 1e-12:
        return keep_at(grid[high])
    while low < high:
        middle = (low + high + 1) // 2
        if task.meter(keep_at(grid[middle])) <= task.budget.keep + 1e-12:
            low = middle
        else:
            high = middle - 1
    return keep_at(grid[low])
