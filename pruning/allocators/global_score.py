"""One ranking over all layers by the score itself, whatever a unit costs; no layer is squeezed shut.

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", global ranking; the floor is ours.
"""

from __future__ import annotations

import math
from dataclasses import replace

from prunepolicy.pruning.allocators.global_rank import around_budget, check_comparable, used_by
from prunepolicy.pruning.allocators.registry import TOLERANCE, Task, allocator, kept_by_score
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
    before, counts = around_budget(floored, multiple, task.scores)
    stuck: dict[str, int] = {}
    while used_by(floored, counts) < task.budget.keep - TOLERANCE:
        # The last to go takes too much with it: its group stays as it was, and others go on.
        changed = {name: count for name, count in before.items() if count != counts[name]}
        stuck |= changed
        if not changed or len(stuck) == len(task.groups):
            break
        before, others = around_budget(floored, multiple, task.scores, stuck)
        if used_by(floored, others) > task.budget.keep:
            break
        counts = others
    return {g.name: kept_by_score(g, task.scores[g.name], counts[g.name]) for g in task.groups}


def _floored(group: UnitGroup) -> UnitGroup:
    return replace(group, floor=max(group.floor, math.ceil(LEAST * group.size)))
