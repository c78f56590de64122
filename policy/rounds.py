"""Approach a budget in rounds: remove some units, measure the network anew, and decide again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prunepolicy.policy.base import Instruments
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats

MOST_ROUNDS = 64

Decide = Callable[[Stats, Budget, Plan | None], Plan]
"""From statistics, a round's budget and the plan of the round before (None in the first) to a plan.

The last round has the whole budget.
"""


def plan_in_rounds(
    decide: Decide, stats: Stats, budget: Budget, instruments: Instruments, rounds: int
) -> Plan:
    """Decide `rounds` times; equal shares of what is left go in every round.

    All is decided at once where nothing can be measured anew.

    Args:
        stats: of the network as it is.
    """
    refresh = instruments.refresh
    if refresh is None:
        return decide(stats, budget, None)
    steps = [replace(budget, keep=budget.keep ** (number / rounds)) for number in range(1, rounds + 1)]
    plan = decide(stats, steps[0], None)
    for step in steps[1:]:
        stats = stats.merged(refresh(plan))
        plan = decide(stats, step, plan)
    return plan


def checked_rounds(rounds: int) -> int:
    """Return `rounds`, or raise `UsageError` where it makes no sense."""
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"rounds must be between 1 and {MOST_ROUNDS}; got {rounds}.")
    return rounds
