"""The registry of allocators: from scores and a budget to what stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prunepolicy.pruning.budget_meter import Meter
from prunepolicy.pruning.errors import BudgetError
from prunepolicy.pruning.plan import KIND_OF, Budget, Plan
from prunepolicy.pruning.reach import ALIGNED_KINDS, rounded_up
from prunepolicy.pruning.registry import Registry, file_name
from prunepolicy.pruning.units import Keep, UnitGraph, UnitGroup

TOLERANCE = 0.01


@dataclass(frozen=True)
class Task:
    """What an allocator decides about.

    Attributes:
        groups: the groups that may lose units.
        scores: per group one number per unit, higher means keep. Units that earlier rounds
            removed have a score of minus infinity.
        meter: share of the budget that a keep choice uses.
        comparable: scores may be added and compared across groups.
        nearest: spend as much of the budget as counts of whole units can, whatever the scores are.
    """

    graph: UnitGraph
    groups: tuple[UnitGroup, ...]
    scores: Mapping[str, Tensor]
    budget: Budget
    meter: Meter
    comparable: bool
    nearest: bool = False

    def fits(self, used: float) -> bool:
        """Return whether a share is within the budget, rounding aside."""
        return used <= self.budget.keep + 1e-12

    def spends(self, used: float) -> bool:
        """Return whether a share leaves at most 1 % of the budget."""
        return used >= self.budget.keep - TOLERANCE


Allocator = Callable[[Task, int], dict[str, tuple[int, ...]]]
"""From a task and a width multiple to the units that stay, using at most the budget."""

allocators: Registry[Allocator] = Registry("allocator", "prunepolicy.pruning.allocators")


def allocator(function: Allocator) -> Allocator:
    """Register the decorated function under the name of its file."""
    allocators.add(file_name(function), function)
    return function


def allocate(name: str, task: Task) -> dict[str, tuple[int, ...]]:
    """Run an allocator with the widest alignment that meets the budget within 1 %.

    Layers, heads and experts are few, so that there may be no such counts; the budget is rounded down then.

    Raises:
        BudgetError: when nothing within the budget can be reached; the sentence names the least that can.
    """
    wanted = task.budget.multiple_of
    multiples = [wanted] if wanted else [128, 64, 32, 16, 8, 4, 2, 1]
    for multiple in multiples:
        keep = allocators[name](task, multiple)
        used = task.meter(keep)
        if task.fits(used) and task.spends(used):
            return keep
    keep = allocators[name](replace(task, nearest=True), multiples[-1])
    used = task.meter(keep)
    if task.fits(used):
        return keep
    raise BudgetError(
        f"{task.budget} can't be reached; the least that can is keep {rounded_up(used)}. "
        f"Ask for that{_or_more_units(task)}."
    )


def _or_more_units(task: Task) -> str:
    """Return the advice to let more kinds of unit go, where there are others that the budget may take."""
    held = {group.kind for group in task.groups}
    there = [unit for unit, kinds in KIND_OF.items() if not {*kinds}.isdisjoint(task.graph.kinds)]
    fresh = [unit for unit in there if held.isdisjoint(KIND_OF[unit])]
    if task.budget.of in KIND_OF or not fresh:
        return ""
    return f", or let more kinds of unit go (--units {','.join(there)})"


def kept_by_score(group: UnitGroup, scores: Tensor, count: int) -> tuple[int, ...]:
    """Return the sorted ids of the `count` best units; ties go to the lower id.

    Units that take turns go with their neighbours, so that fewer than `count` may stay.
    """
    if group.period > 1:
        runs = min(-(-(group.size - count) // group.period), (group.size - 1) // group.period)
        scores, count = _shared(scores, group.period), group.size - runs * group.period
    order = torch.argsort(scores, descending=True, stable=True)
    return tuple(sorted(order[:count].tolist()))


def _shared(scores: Tensor, period: int) -> Tensor:
    """Return the mean score of the neighbours that go together; those left over at the end stay."""
    whole = len(scores) // period * period
    means = scores[:whole].unflatten(0, (-1, period)).mean(1)
    return torch.cat([means.repeat_interleave(period), scores.new_full((len(scores) - whole,), torch.inf)])


def priced_like(task: Task, group: UnitGroup, count: int) -> tuple[int, ...]:
    """Return units that cost what the `count` best ones cost: any, but where whole tensors go."""
    return kept_by_score(group, task.scores[group.name], count) if group.prefix else tuple(range(count))


def alive(scores: Tensor) -> int:
    """Return how many units earlier rounds have left."""
    return int((scores > -torch.inf).sum())


def count_grid(task: Task, group: UnitGroup, multiple: int) -> list[int]:
    """Return the numbers of units that may stay, rising: multiples, and what earlier rounds left.

    Units of infinite score never go. A multiple that the user didn't ask for leaves every group at least
    eight steps.
    """
    step = group.multiple_of
    if group.kind in ALIGNED_KINDS:
        finest = 1 << max(0, (group.size // 8).bit_length() - 1)
        step = max(step, multiple if task.budget.multiple_of else min(multiple, finest))
    scores = task.scores[group.name]
    most, fewest = alive(scores), max(group.floor, int((scores == torch.inf).sum()))
    if group.period > 1:
        return list(range(most - (most - fewest) // group.period * group.period, most + 1, group.period))
    grid = list(range(-(-fewest // step) * step, most + 1, step))
    return grid if grid and grid[-1] == most else [*grid, most]


def removed_score(task: Task, keep: Keep) -> float:
    """Return the sum of scores of what goes, not counting what earlier rounds or whole layers took."""
    total = 0.0
    for group in Plan(keep, task.budget, "").staying(task.graph, task.groups):
        scores = task.scores[group.name].clone()
        scores[list(keep[group.name])] = 0
        total += float(scores[scores > -torch.inf].sum())
    return total
