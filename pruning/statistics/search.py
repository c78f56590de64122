"""Search for units that cost little together: greedy removal, and swaps with simulated annealing.

Both read a surrogate, never a model, and touch all units of a group in one matrix product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunepolicy.pruning.statistics.stats import group_costs
from prunepolicy.pruning.statistics.surrogate import Removal, Surrogate
from prunepolicy.pruning.units import Keep, UnitGroup

SHORTLIST = 64
"""Units on either side that are paired when a swap is sought."""
SMALLEST_SHARE = 16
"""A block is at most this part of its group."""


def removal_order(surrogate: Surrogate, gone: Tensor, level: bool, steps: int) -> dict[str, Tensor]:
    """Remove unit after unit, each time what costs least per parameter of what is left.

    The group is chosen anew for every block of units, the unit for every unit.

    Source: the idea of Ye et al., "Performance-aware Global Channel Pruning", on a surrogate.

    Args:
        surrogate: predicts the rise of the loss.
        gone: units that aren't there any more, bool (units,).
        level: groups of one tie take turns, so that their numbers stay equal.
        steps: about how often the group is chosen; more are slower and finer.

    Returns:
        Per group and unit the position at which it goes, from 1; 0 for units that were gone.
    """
    removal, order = Removal(surrogate, gone), torch.zeros(len(gone))
    costs = {group.name: group_costs(surrogate.graph, group) for group in surrogate.groups}
    left = {g.name: int((~gone[surrogate.columns[g.name]]).sum()) for g in surrogate.groups}
    position = 0
    while any(left.values()):
        rises = removal.marginal().masked_fill(removal.mask, torch.inf)
        group = min(
            _whose_turn(surrogate, left, level),
            key=lambda group: float(rises[surrogate.columns[group.name]].min()) / costs[group.name],
        )
        # Whole blocks go by one comparison between groups: exact single steps would compare them once per
        # unit.
        block = max(1, min(len(gone) // steps, group.size // SMALLEST_SHARE, left[group.name]))
        for _ in range(block):
            position += 1
            order[_remove_cheapest(removal, surrogate.columns[group.name])] = position
        left[group.name] -= block
    return {g.name: order[surrogate.columns[g.name]] for g in surrogate.groups}


def _remove_cheapest(removal: Removal, columns: slice) -> Tensor:
    """Remove the unit of a group whose going costs least now, and return it."""
    rises = removal.marginal(columns).masked_fill(removal.mask[columns], torch.inf)
    cheapest: Tensor = rises.argmin(0, keepdim=True) + columns.start
    removal.flip(cheapest)
    return cheapest


def _whose_turn(surrogate: Surrogate, left: dict[str, int], level: bool) -> list[UnitGroup]:
    groups = [group for group in surrogate.groups if left[group.name]]
    if not level:
        return groups
    most: dict[str, int] = {}
    for group in groups:
        most[group.tie] = max(most.get(group.tie, 0), left[group.name])
    return [group for group in groups if left[group.name] == most[group.tie]]


def exchange(surrogate: Surrogate, keep: Keep, frozen: Tensor, steps: int, seed: int) -> dict[str, Tensor]:
    """Swap kept against removed units of the same group until the surrogate rises least.

    Anneals from `keep`, then descends from the best choice met; never ends above its start. Numbers per
    group stay as they are.

    Source: the idea of the binary quadratic problem in "iCBS", on units.

    Args:
        surrogate: predicts the rise of the loss.
        keep: the choice to start from.
        frozen: units that must stay gone, bool (units,).
        steps: swaps tried while annealing.
        seed: of the annealing.

    Returns:
        Per group which units stay, bool (group size,).
    """
    removal = Removal(surrogate, surrogate.removed(keep) | frozen)
    free = [
        columns
        for columns in surrogate.columns.values()
        if (~removal.mask[columns]).any() and (removal.mask & ~frozen)[columns].any()
    ]
    best = removal.mask.clone()
    if free:
        best = _descended(surrogate, _annealed(removal, free, frozen, steps, seed), free, frozen)
    return {name: ~best[columns] for name, columns in surrogate.columns.items()}


def _annealed(removal: Removal, free: list[slice], frozen: Tensor, steps: int, seed: int) -> Tensor:
    """Return the best choice met while swaps are drawn with chances exp(-rise / temperature)."""
    generator = torch.Generator().manual_seed(seed)
    start = lowest = removal.rise
    best = removal.mask.clone()
    warmest = abs(start) / max(1, int(removal.mask.sum()))
    for step in range(steps):
        # Geometric from the mean rise per removed unit, at which bad swaps are usual, to a thousandth of it,
        # at which they stop.
        temperature = max(warmest * 1e-3 ** (step / steps), torch.finfo(torch.float32).tiny)
        columns = free[int(torch.randint(len(free), (1,), generator=generator))]
        leaving, coming = _sides(removal, columns, frozen)
        leaving = leaving[torch.randperm(len(leaving), generator=generator)[:SHORTLIST]]
        coming = coming[torch.randperm(len(coming), generator=generator)[:SHORTLIST]]
        rises = _swap_rises(removal, leaving, coming)
        # To leave all as it is, is one more choice, which costs nothing.
        chances = torch.cat([rises.flatten(), torch.zeros(1)]).div(-temperature).softmax(0)
        chosen = int(torch.multinomial(chances, 1, generator=generator))
        if chosen < rises.numel():
            removal.flip(torch.stack([leaving[chosen // len(coming)], coming[chosen % len(coming)]]))
        if removal.rise < lowest:
            lowest, best = removal.rise, removal.mask.clone()
    return best


def _descended(surrogate: Surrogate, mask: Tensor, free: list[slice], frozen: Tensor) -> Tensor:
    """Make the best swap of every group in turn until none helps."""
    removal = Removal(surrogate, mask)
    improved = True
    while improved:
        improved = False
        for columns in free:
            leaving, coming = (_shortlist(removal, side) for side in _sides(removal, columns, frozen))
            rises = _swap_rises(removal, leaving, coming)
            chosen, before = int(rises.argmin()), removal.rise
            swap = torch.stack([leaving[chosen // len(coming)], coming[chosen % len(coming)]])
            removal.flip(swap)
            # Rounding must not pass for progress: the descent would swap two equal units for ever.
            if removal.rise < before * (1 - 1e-6) - 1e-12:
                improved = True
            else:
                removal.flip(swap)
    return removal.mask


def _sides(removal: Removal, columns: slice, frozen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the units of a group that may go, and those that may come back."""
    gone = removal.mask[columns]
    comeback = gone & ~frozen[columns]
    return (~gone).nonzero().flatten() + columns.start, comeback.nonzero().flatten() + columns.start


def _shortlist(removal: Removal, units: Tensor) -> Tensor:
    rises = removal.marginal(units)
    return units[rises.topk(min(SHORTLIST, len(units)), largest=False).indices]


def _swap_rises(removal: Removal, leaving: Tensor, coming: Tensor) -> Tensor:
    """Return how the surrogate changes for every pair, shape (leaving, coming)."""
    surrogate = removal.surrogate
    share = (1 - surrogate.shrinkage) / surrogate.samples
    shared = surrogate.gradients[leaving] @ surrogate.gradients[coming].T
    return removal.marginal(leaving)[:, None] + removal.marginal(coming)[None] - share * shared
