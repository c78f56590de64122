"""Remove, again and again, the units whose going costs least now (the idea of PAGCP)."""

from __future__ import annotations

from prunepolicy.policy.base import Instruments, policies
from prunepolicy.policy.budgeting import spend, task_for
from prunepolicy.policy.search import Search, outside
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.search import removal_order
from prunepolicy.pruning.statistics.stats import Stats, group_costs
from prunepolicy.pruning.units import UnitGraph


@policies.register
class Greedy(Search):
    """Ranks units by when a greedy search on the surrogate would remove them."""

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Find the order of removal, and let an allocator stop at the budget.

        Raises:
            BudgetError: when the budget can't be met.
        """
        instruments = instruments or Instruments()
        surrogate = self.surrogate(graph, stats, budget)
        gone = outside(surrogate, instruments.within)
        order = removal_order(surrogate, gone, budget.uniform, self.config.steps)
        if not budget.uniform:  # The ranking over all layers divides by these costs again.
            prices = {name: group_costs(graph, graph[name], budget.of) for name in order}
            order = {name: place * prices[name] for name, place in order.items()}
        task = task_for(graph, order, budget, instruments, comparable=not budget.uniform)
        return Plan(spend(task), budget, self.name)
