"""The graph policy: message passing over the unit graph says what stays, in a network of any family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.metanet.graph import network_graph
from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, policies, restored_weights
from prunepolicy.policy.kinds.heuristic import FREE_KINDS
from prunepolicy.policy.search import left, searched_groups, shrunk
from prunepolicy.pruning.allocators import Task, allocate
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.probe import Probe
from prunepolicy.pruning.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

if TYPE_CHECKING:
    from prunepolicy.metanet.network import GraphNetwork


class GraphConfig(PolicyConfig):
    """Settings of a graph policy.

    Attributes:
        hidden: width of its network.
        rounds: of messages between groups.
        layer: name of the message-passing layer.
        units: kinds of unit to mix where a budget names none, beside those that may always differ
            between layers; empty for what other policies take.
        repair: name of the repair after the cut, None for none.
    """

    hidden: int = Field(default=48, ge=1, le=1024)
    rounds: int = Field(default=2, ge=0, le=16)
    layer: str = "directed_mean"
    units: tuple[str, ...] = ()
    repair: str | None = None
    samples: int = Field(default=64, ge=1)
    length: int = Field(default=128, ge=2)
    probe: str = "self"


class Graph(Policy):
    """Corrects a heuristic's scores by what its network makes of the whole graph."""

    config_type: ClassVar[type[PolicyConfig]] = GraphConfig

    def __init__(self, config: GraphConfig | None = None, name: str = "graph") -> None:
        # torch-geometric is imported by the network's layers, so only where a policy is built.
        from prunepolicy.metanet.network import GraphNetwork

        self.config: GraphConfig = config or GraphConfig()
        self.name = name
        try:
            self.network: GraphNetwork = GraphNetwork(
                self.config.hidden, self.config.rounds, self.config.layer
            )
        except ImportError as error:
            raise PrunePolicyError(
                "Graph policies need an extra: pip install 'prunepolicy[train]'."
            ) from error

    @classmethod
    def restore(cls, folder: Path, config: GraphConfig, name: str) -> Self:
        """Build the policy and read its weights."""
        policy = cls(config, name)
        policy.network.load_state_dict(restored_weights(folder, policy.network.state_dict()))
        return policy

    @property
    def probe(self) -> Probe:
        """The inputs on which the model is to be watched."""
        return Probe(self.config.probe, self.config.samples, self.config.length)

    @property
    def repair(self) -> str | None:
        """The repair that follows the cut."""
        return self.config.repair

    def weights(self) -> Mapping[str, Tensor]:
        """Return the network's weights."""
        return self.network.state_dict()

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return what its features are made of."""
        return {"activations", "gradients"}

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Judge the network, and let an allocator spend the budget on the scores that follow.

        Raises:
            BudgetError: when the budget can't be met.
        """
        instruments = instruments or Instruments()
        groups = self.groups(graph, budget)
        described = network_graph(graph, groups, stats, budget)
        with torch.no_grad():
            scores = described.scores(self.network(described.nodes).decisions)
        scores = {group.name: left(scores[group.name], group, instruments.within) for group in groups}
        meter = meter_for(graph, budget, instruments.seconds)
        task = Task(graph, groups, scores, budget, meter, comparable=True)
        keep = allocate("uniform" if budget.uniform else "global_rank", task)
        return Plan(shrunk(keep, graph), budget, self.name)

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the groups that may lose units under `budget`."""
        mixed = replace(budget, units=self.config.units).kinds + (() if budget.uniform else FREE_KINDS)
        groups = graph.of_kind(*mixed)
        return groups if groups and self.config.units and not budget.kinds else searched_groups(graph, budget)


policies.add("graph", Graph)
