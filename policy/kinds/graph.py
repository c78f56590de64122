"""The graph policy: message passing over the unit graph says what stays, in a network of any family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.metanet.group_network.graph import network_graph
from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, StoredPolicy, policies
from prunepolicy.policy.budgeting import (
    FREE_KINDS,
    check_spendable,
    searched_groups,
    spend,
    task_for,
    unscored,
)
from prunepolicy.policy.rounds import MOST_ROUNDS, checked_rounds, plan_in_rounds
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.errors import MissingExtraError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

if TYPE_CHECKING:
    from prunepolicy.metanet.group_network.network import GraphNetwork


class GraphConfig(PolicyConfig):
    """Settings of a graph policy.

    Attributes:
        hidden: width of its network.
        rounds: of messages between groups.
        layer: name of the message-passing layer.
        units: kinds of unit to mix where a budget names none, beside those that may always differ
            between layers; empty for what other policies take.
        count_layers: decide how many layers go where other units may go, too, after having measured what
            happens without each.
        removal_rounds: steps in which a budget is approached, with statistics measured anew after each;
            units that went may come back.
    """

    hidden: int = Field(default=48, ge=1, le=1024)
    rounds: int = Field(default=2, ge=0, le=16)
    layer: str = "directed_mean"
    units: tuple[str, ...] = ()
    count_layers: bool = False
    removal_rounds: int = Field(default=1, ge=1, le=MOST_ROUNDS)


@policies.register
class Graph(Policy):
    """Corrects a heuristic's scores by what its network makes of the whole graph."""

    config_type: ClassVar[type[PolicyConfig]] = GraphConfig
    config: GraphConfig

    def __init__(self, config: GraphConfig | None = None, name: str = "") -> None:
        # torch-geometric is imported by the network's layers, so only where a policy is built.
        from prunepolicy.metanet.group_network.network import GraphNetwork

        super().__init__(config, name)
        try:
            self.network: GraphNetwork = GraphNetwork(
                self.config.hidden, self.config.rounds, self.config.layer
            )
        except ImportError as error:
            raise MissingExtraError("Graph policies need", "train") from error

    @classmethod
    def restore(cls, stored: StoredPolicy, config: GraphConfig, name: str) -> Self:
        """Build the policy and read its weights."""
        policy = cls(config, name)
        policy.network.load_state_dict(stored.weights(policy.weights()))
        return policy

    def in_rounds(self, rounds: int) -> Self:
        """Return this policy, deciding in `rounds` steps; units that went may come back."""
        return self.with_settings(removal_rounds=checked_rounds(rounds))

    def weights(self) -> Mapping[str, Tensor]:
        """Return the network's weights."""
        return self.network.state_dict()

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return what its features are made of."""
        needs: set[Need] = {"activations", "gradients"}
        if self.config.count_layers and any(group.kind == "layer" for group in self.groups(graph, budget)):
            needs.add("drops")
        return needs

    def check(self, graph: UnitGraph, budget: Budget, instruments: Instruments | None = None) -> None:
        """Raise what `plan` would raise whatever the network decides."""
        check_spendable(unscored(graph, self.groups(graph, budget), budget, instruments, comparable=True))

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Run the network, and let an allocator spend the budget on the scores that follow.

        Raises:
            BudgetError: when the budget can't be met.
        """
        instruments, groups = instruments or Instruments(), self.groups(graph, budget)

        def decide(stats: Stats, step: Budget, before: Plan | None) -> Plan:
            described = network_graph(graph, groups, stats, step)
            with torch.no_grad():
                decisions = self.network(described.nodes).decisions
            scores = described.scores(decisions, step.keep)
            task = task_for(graph, scores, step, instruments, comparable=True)
            return Plan(spend(task), step, self.name)

        return plan_in_rounds(decide, stats, budget, instruments, self.config.removal_rounds)

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the groups that may lose units under `budget`."""
        if budget.kinds or not self.config.units:
            return searched_groups(graph, budget)
        mixed, free = replace(budget, units=self.config.units).kinds, () if budget.uniform else FREE_KINDS
        return graph.of_kind(*mixed, *free) or searched_groups(graph, budget)
