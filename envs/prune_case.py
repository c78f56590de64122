"""A network prepared for the pruning environment: its graph, its statistics, and what plans cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from prunepolicy.metanet.group_network.graph import NetworkGraph, network_graph
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.allocators import Task, allocators
from prunepolicy.pruning.budget_meter import Meter, meter_for
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import BudgetError, UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.reach import rounded_up
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.surrogate import USUAL_SHRINKAGE, Surrogate
from prunepolicy.pruning.units import Keep, UnitGraph, UnitGroup


@dataclass(frozen=True)
class PruneCase:
    """One network under budgets that differ in size only.

    Attributes:
        name: of the network.
        graph: its units.
        stats: activations and gradients.
        budget: what is budgeted; its size is drawn anew for every episode.
        measure: the loss of the network with a keep choice, above the dense one's; None takes the
            surrogate's prediction, which costs milliseconds.
        refresh: statistics measured anew on the network as a keep choice leaves it, for several rounds.
        shrinkage: of the surrogate.
    """

    name: str
    graph: UnitGraph
    stats: Stats
    budget: Budget = field(default_factory=lambda: Budget(0.8, "ffn", uniform=False))
    measure: Callable[[Keep], float] | None = None
    refresh: Callable[[Keep], Stats] | None = None
    shrinkage: float = USUAL_SHRINKAGE

    def __post_init__(self) -> None:
        if not self.groups:
            raise UsageError(f"{self.name} has no {self.budget.of} to prune.")

    def __getstate__(self) -> dict[str, Any]:
        """Travel with what was measured, and without what can be derived again."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**state, "_references": self._references}

    @cached_property
    def groups(self) -> tuple[UnitGroup, ...]:
        """The groups that may lose units."""
        return budgeted_groups(self.graph, self.budget)

    @cached_property
    def surrogate(self) -> Surrogate:
        """What predicts the rise of the loss."""
        return Surrogate.of(self.graph, self.groups, self.stats, shrinkage=self.shrinkage)

    @cached_property
    def meter(self) -> Meter:
        """The share of the budgeted quantity that a keep choice uses."""
        return meter_for(self.graph, self.budget)

    @cached_property
    def described(self) -> NetworkGraph:
        """What a policy sees; its globals are those of `budget`."""
        return self.described_by(self.stats)

    def described_by(self, stats: Stats) -> NetworkGraph:
        """Return what a policy sees when the statistics are `stats`."""
        return network_graph(self.graph, self.groups, stats, self.budget)

    @cached_property
    def fisher(self) -> dict[str, Tensor]:
        """The reference's scores."""
        return criteria["fisher"](self.graph, self.groups, self.stats)

    def rise(self, keep: Keep) -> float:
        """Return how much the loss rises when only `keep` stays."""
        return self.measure(keep) if self.measure else self.surrogate.rise(keep)

    @cached_property
    def order(self) -> dict[str, list[int]]:
        """The units of every group, best first, by the reference's scores."""
        return {
            name: scores.argsort(descending=True, stable=True).tolist()
            for name, scores in self.fisher.items()
        }

    def refuse_below(self, keep: float) -> None:
        """Raise `BudgetError` when not even the least that every group needs stays within `keep`."""
        least = self.meter({group.name: tuple(range(group.floor)) for group in self.groups})
        if least > keep:
            raise BudgetError(f"{self.name} can't get below keep {rounded_up(least)} of {self.budget.of}.")

    def reference_rise(self, budget: Budget) -> float:
        """Return the rise that the Fisher ranking causes; remembered, as budgets come again and again."""
        if budget.keep not in self._references:
            self._references[budget.keep] = self.rise(self.spend(self.fisher, budget))
        return self._references[budget.keep]

    @cached_property
    def _references(self) -> dict[float, float]:
        return {}

    def spend(self, scores: Mapping[str, Tensor], budget: Budget) -> Keep:
        """Keep the best units within the budget, widths in steps of one."""
        task = Task(self.graph, self.groups, scores, budget, self.meter, comparable=True)
        return allocators["uniform" if budget.uniform else "global_rank"](task, 1)


def budgeted_groups(graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
    """Return the groups that episodes under `budget` decide on: channels, where it names no units."""
    return graph.of_kind(*(budget.kinds or ("ffn", "channel")))


def invented_case(seed: int = 0, widths: int = 32, layers: int = 3, samples: int = 16) -> PruneCase:
    """Return a small network with random statistics, to try an environment on."""
    if min(widths, layers, samples) < 1:
        raise UsageError(f"A network has channels, layers and samples; got {widths}, {layers}, {samples}.")
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": widths, "num_hidden_layers": layers}
    graph = adapter.units(config, adapter.shapes(config))
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(samples, 4, generator=generator)
    gradients, output = {}, {}
    for group in graph.groups:
        strength = torch.randn(group.size, generator=generator).exp()
        own = torch.randn(samples, group.size, generator=generator)
        # Few directions that many units share: what goes together matters, as in trained networks.
        together = shared @ torch.randn(4, group.size, generator=generator)
        gradients[group.name] = (together + own) * strength
        output[group.name] = strength * torch.rand(group.size, generator=generator)
    return PruneCase(f"invented-{seed}", graph, Stats({"gradients": gradients, "output": output}))
