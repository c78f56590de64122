"""What policies share that search for a plan on the surrogate instead of scoring unit by unit."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from prunepolicy.policy.base import Instruments, Policy, PolicyConfig
from prunepolicy.policy.budgeting import check_spendable, searched_groups, unscored
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.surrogate import USUAL_SHRINKAGE, Surrogate
from prunepolicy.pruning.units import UnitGraph, UnitGroup


class SearchConfig(PolicyConfig):
    """Settings of a search.

    Attributes:
        shrinkage: share of the interactions between units that is not believed, see `Surrogate`.
        steps: how long to search.
    """

    shrinkage: float = Field(default=USUAL_SHRINKAGE, ge=0, le=1)
    steps: int = Field(default=1024, ge=1, le=1_000_000)


class Search(Policy):
    """A policy that reads gate gradients alone and searches anew for every budget."""

    config_type: ClassVar[type[PolicyConfig]] = SearchConfig
    config: SearchConfig

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return that gate gradients are all it reads."""
        return {"gradients"}

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the groups that may lose units under `budget`."""
        return searched_groups(graph, budget)

    def check(self, graph: UnitGraph, budget: Budget, instruments: Instruments | None = None) -> None:
        """Raise what `plan` would raise whatever the gate gradients are."""
        groups = self.groups(graph, budget)
        check_spendable(unscored(graph, groups, budget, instruments, comparable=not budget.uniform))

    def surrogate(self, graph: UnitGraph, stats: Stats, budget: Budget) -> Surrogate:
        """Return what is searched on."""
        return Surrogate.of(graph, self.groups(graph, budget), stats, shrinkage=self.config.shrinkage)


def outside(surrogate: Surrogate, within: Plan | None) -> Tensor:
    """Return which units an outer plan has removed, bool (units,)."""
    return surrogate.removed(within.keep if within else {})
