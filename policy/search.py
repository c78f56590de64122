"""What policies share that search for a plan on the surrogate instead of scoring unit by unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.policy.base import Policy, PolicyConfig
from prunepolicy.policy.kinds.heuristic import FREE_KINDS, MAIN_KINDS
from prunepolicy.pruning.allocators import Task, allocate
from prunepolicy.pruning.budget_meter import Meter, meter_for
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.probe import Probe
from prunepolicy.pruning.stats import Stats
from prunepolicy.pruning.surrogate import USUAL_SHRINKAGE, Surrogate
from prunepolicy.pruning.units import Keep, UnitGraph, UnitGroup


class SearchConfig(PolicyConfig):
    """Settings of a search.

    Attributes:
        shrinkage: share of the interactions between units that is not believed, see `Surrogate`.
        steps: how long to search.
        repair: name of the repair after the cut, None for none.
    """

    shrinkage: float = Field(default=USUAL_SHRINKAGE, ge=0, le=1)
    steps: int = Field(default=1024, ge=1, le=1_000_000)
    repair: str | None = None
    samples: int = Field(default=64, ge=1)
    length: int = Field(default=128, ge=2)
    probe: str = "self"


class Search(Policy):
    """A policy that reads gate gradients alone and searches anew for every budget."""

    config_type: ClassVar[type[PolicyConfig]] = SearchConfig

    def __init__(self, config: SearchConfig | None = None, name: str = "") -> None:
        self.config: SearchConfig = config or SearchConfig()
        self.name = name or self.kind

    @classmethod
    def restore(cls, folder: Path, config: SearchConfig, name: str) -> Self:
        """Build the policy; a search has no weights."""
        return cls(config, name)

    @property
    def probe(self) -> Probe:
        """The inputs on which the model is to be watched."""
        return Probe(self.config.probe, self.config.samples, self.config.length)

    @property
    def repair(self) -> str | None:
        """The repair that follows the cut."""
        return self.config.repair

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return that gate gradients are all it reads."""
        return {"gradients"}

    def surrogate(self, graph: UnitGraph, stats: Stats, budget: Budget) -> Surrogate:
        """Return what is searched on."""
        return Surrogate.of(graph, searched_groups(graph, budget), stats, shrinkage=self.config.shrinkage)


def searched_groups(graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
    """Return the groups that may lose units: those the budget names, or what suits its shape.

    Raises:
        UsageError: when the network has none of them.
    """
    main = next(((kind,) for kind in MAIN_KINDS if kind in graph.kinds), ())
    groups = graph.of_kind(*(budget.kinds or (main if budget.uniform else (*FREE_KINDS, *main))))
    if not groups:
        raise UsageError(f"This {graph.family} network has no {budget.of} to prune.")
    return groups


def outside(surrogate: Surrogate, within: Plan | None) -> Tensor:
    """Return which units an outer plan has removed, bool (units,)."""
    return surrogate.removed(within.keep if within else {})


def spend(surrogate: Surrogate, scores: Mapping[str, Tensor], budget: Budget, seconds: Meter | None) -> Keep:
    """Let an allocator meet the budget: uniform widths, or one ranking over all layers.

    Raises:
        BudgetError: when nothing reachable is within 1 % of the budget.
    """
    graph, groups = surrogate.graph, surrogate.groups
    meter = meter_for(graph, budget, seconds)
    task = Task(graph, groups, scores, budget, meter, comparable=not budget.uniform)
    return allocate("uniform" if budget.uniform else "global_rank", task)


def without(scores: Mapping[str, Tensor], gone: Tensor, surrogate: Surrogate) -> dict[str, Tensor]:
    """Give units that an outer plan has removed the score minus infinity."""
    columns = surrogate.columns
    return {name: score.masked_fill(gone[columns[name]], -torch.inf) for name, score in scores.items()}


def left(scores: Tensor, group: UnitGroup, within: Plan | None) -> Tensor:
    """Return the scores of a group, minus infinity for units that an outer plan has removed."""
    if within is None:
        return scores
    remaining = torch.full_like(scores, -torch.inf)
    kept = list(within.kept(group))
    remaining[kept] = scores[kept]
    return remaining


def shrunk(keep: Keep, graph: UnitGraph) -> dict[str, tuple[int, ...]]:
    """Return only the groups that lose units."""
    return {name: tuple(units) for name, units in keep.items() if len(units) < graph[name].size}
