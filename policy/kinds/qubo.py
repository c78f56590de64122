"""Minimise the surrogate under the budget as a binary quadratic problem (the idea of iCBS)."""

from __future__ import annotations

from prunepolicy.policy.base import Instruments, policies
from prunepolicy.policy.budgeting import shrunk, spend, task_for
from prunepolicy.policy.search import Search, outside
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.search import exchange
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph


@policies.register
class Qubo(Search):
    """Starts from the Fisher ranking, and swaps units inside every group."""

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Let the Fisher ranking say how many units stay per group, and a search say which.

        Raises:
            BudgetError: when the budget can't be met.
        """
        instruments = instruments or Instruments()
        surrogate = self.surrogate(graph, stats, budget)
        gone = outside(surrogate, instruments.within)
        fisher = criteria["fisher"](graph, surrogate.groups, stats)
        task = task_for(graph, fisher, budget, instruments, comparable=not budget.uniform)
        stays = exchange(surrogate, spend(task), gone, self.config.steps, stats.seed)
        keep = {name: tuple(mask.nonzero().flatten().tolist()) for name, mask in stays.items()}
        return Plan(shrunk(keep, graph), budget, self.name)
