"""How far a network can shrink, which its unit graph says before any weight is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from prunepolicy.pruning.errors import BudgetError
from prunepolicy.pruning.plan import KIND_OF, Budget
from prunepolicy.pruning.units import VOCABULARY, Keep, UnitGraph, UnitGroup

ALIGNED_KINDS = ("ffn", "channel", "vocabulary")
"""Kinds of unit whose number stays a multiple of what a budget asks for."""


def least(groups: Iterable[UnitGroup], multiple: int = 1) -> Keep:
    """Return the smallest keep choice that floors and multiples allow."""
    return {group.name: tuple(range(_fewest(group, multiple))) for group in groups}


def check_reachable(
    graph: UnitGraph,
    groups: Sequence[UnitGroup],
    budget: Budget,
    least_share: Callable[[Sequence[UnitGroup]], float],
    kinds: Sequence[str] = (),
) -> None:
    """Raise `BudgetError` where even the smallest network that `groups` leave is larger than the budget.

    The sentence says what they reach, and whether more kinds of unit would reach it.

    Args:
        groups: may lose units.
        least_share: of the budget's measure that stays when such groups lose all that they can.
        kinds: all that could, were they asked for; empty for every kind that the network has.
    """
    reached = least_share(groups)
    if reached <= budget.keep + 1e-12:
        return
    held = _units_of(groups)
    sentence = f"{budget} can't be reached: {_together(held)} {rounded_up(reached)} at least"
    more = graph.of_kind(*(kinds or (kind for kind in graph.kinds if kind != VOCABULARY)))
    further = [unit for unit in _units_of(more) if unit not in held]
    if budget.of in KIND_OF or not further:
        raise BudgetError(f"{sentence}. Keep at least that.")
    everything = least_share(list({g.name: g for g in (*groups, *more)}.values()))
    sentence += f"; with {' and '.join(further)} {rounded_up(everything)}."
    if everything > budget.keep + 1e-12:
        raise BudgetError(f"{sentence} Keep more.")
    raise BudgetError(f"{sentence} Keep more, or let more go: --units {','.join(_units_of(more, held))}.")


def rounded_up(share: float) -> str:
    """Return a share that can be asked for: with four decimals, and not less than it is."""
    return f"{math.ceil(share * 1e4 - 1e-6) / 1e4:.4f}"


def _fewest(group: UnitGroup, multiple: int) -> int:
    if group.period > 1:
        return group.size - (group.size - group.floor) // group.period * group.period
    step = max(group.multiple_of, multiple if group.kind in ALIGNED_KINDS else 1)
    return min(group.size, math.ceil(group.floor / step) * step)


def _units_of(groups: Iterable[UnitGroup], before: Sequence[str] = ()) -> list[str]:
    """Return what budgets call the kinds of `groups`, after those in `before`."""
    held = {group.kind for group in groups}
    found = [unit for unit, kinds in KIND_OF.items() if not held.isdisjoint(kinds)]
    return [*before, *(unit for unit in found if unit not in before)]


def _together(units: Sequence[str]) -> str:
    """Return units as the beginning of a sentence about how many stay."""
    if len(units) > 1:
        return f"{' and '.join(units)} together leave"
    return f"{units[0]} alone {'leaves' if units[0] == 'ffn' else 'leave'}"
