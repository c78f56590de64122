"""Equal counts in all layers, so that a stock configuration can say them and plain runtimes load."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from prunepolicy.pruning.allocators.registry import (
    Task,
    allocator,
    count_grid,
    kept_by_score,
    priced_like,
    removed_score,
)
from prunepolicy.pruning.units import Keep, UnitGroup


@allocator
def uniform(task: Task, multiple: int) -> dict[str, tuple[int, ...]]:
    """Choose one count per configuration key.

    The kind with the finest grid (FFN channels) is solved for the budget, all its keys at one share.
    All counts of the other kinds (heads, layers) are tried when scores are comparable, and the
    choice that removes the smallest sum of scores wins, as long as it can use up the budget. Without
    comparable scores the others are touched only when the finest grid alone can't meet the budget.
    Where the nearest share is asked for, all counts are tried, and scores decide between equal shares.
    """
    ties = _ties(task)
    grids = {
        tie: min((count_grid(task, group, multiple) for group in groups), key=lambda grid: grid[-1])
        for tie, groups in ties.items()
    }
    finest = max(grids, key=lambda tie: len(grids[tie]))
    kind = ties[finest][0].kind
    others = [tie for tie in grids if ties[tie][0].kind != kind]
    best: _CountChoice | None = None
    for counts in _combinations(others, grids):
        allowed = [n for n in grids[finest] if task.graph.allows(counts | {finest: n})]
        if not allowed or (best and _is_behind(task, task.meter(_of_counts(task, ties, counts)), best)):
            continue
        found = _CountChoice.of(task, _solve(task, ties, grids | {finest: allowed}, counts, finest))
        best = found if best is None or found.rank < best.rank else best
        if not task.comparable and not task.nearest and task.fits(best.used):
            break
    assert best is not None
    return best.keep


@dataclass(frozen=True)
class _CountChoice:
    """What would stay, the share that it uses, and its place among others: the lowest rank wins."""

    keep: dict[str, tuple[int, ...]]
    used: float
    rank: tuple[bool, float, float]

    @classmethod
    def of(cls, task: Task, keep: dict[str, tuple[int, ...]]) -> _CountChoice:
        used = task.meter(keep)
        away = round(abs(used - task.budget.keep), 9) if task.nearest else 0.0
        removed = removed_score(task, keep) if task.comparable else 0.0
        return cls(keep, used, (not task.fits(used), away, removed))


def _is_behind(task: Task, most: float, best: _CountChoice) -> bool:
    """Return whether a choice that uses at most the share `most` can't be better than the best."""
    if task.nearest:
        return task.fits(best.used) and most < best.used
    return not task.spends(most)


def _of_counts(task: Task, ties: dict[str, list[UnitGroup]], counts: dict[str, int]) -> Keep:
    """Return a keep choice with the given counts that costs what the best units cost, others whole."""
    return {group.name: priced_like(task, group, counts[tie]) for tie in counts for group in ties[tie]}


def _ties(task: Task) -> dict[str, list[UnitGroup]]:
    ties: dict[str, list[UnitGroup]] = {}
    for group in task.groups:
        ties.setdefault(group.tie, []).append(group)
    return ties


def _combinations(others: list[str], grids: dict[str, list[int]]) -> Iterator[dict[str, int]]:
    """Yield every combination of counts, those that remove least first."""
    for counts in itertools.product(*(reversed(grids[tie]) for tie in others)):
        yield dict(zip(others, counts, strict=True))


def _solve(
    task: Task,
    ties: dict[str, list[UnitGroup]],
    grids: dict[str, list[int]],
    counts: dict[str, int],
    finest: str,
) -> dict[str, tuple[int, ...]]:
    """Return the largest share of the finest kind within the budget, beside the given other counts."""
    # max s  subject to  cost(n_1(s), ..., n_k(s), counts) <= budget, with n_i(s) the grid entry nearest to s
    # times the size of key i. Cost rises with every count, so that bisection over the finest grid is exact;
    # one share for all keys is MobileNet's width multiplier (Howard et al., 2017).
    free = [tie for tie in ties if tie not in counts]

    def at_point(point: int) -> dict[str, int]:
        share = grids[finest][point] / ties[finest][0].size
        return counts | {tie: _at_share(grids[tie], share * ties[tie][0].size) for tie in free}

    def fits(chosen: dict[str, int]) -> bool:
        # Any units of a count cost the same but where whole tensors go, hence no sorting per candidate.
        return task.fits(task.meter(_of_counts(task, ties, chosen)))

    low, high = 0, len(grids[finest]) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(at_point(middle)) else (low, middle - 1)
    chosen = at_point(low)
    if low + 1 < len(grids[finest]):
        # Several keys at one share leave a gap that single keys, one step wider, can fill.
        for tie, count in at_point(low + 1).items():
            wider = chosen | {tie: count}
            chosen = wider if len(free) > 1 and fits(wider) else chosen
    return {
        group.name: kept_by_score(group, task.scores[group.name], chosen[tie])
        for tie, groups in ties.items()
        for group in groups
    }


def _at_share(grid: list[int], count: float) -> int:
    """Return the entry of a grid that comes closest to `count`."""
    return min(grid, key=lambda entry: abs(entry - count))
