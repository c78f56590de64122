"""The metanetwork as a policy: it rewrites the network's weights, and then an ordinary criterion plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, policies, restored_weights
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.errors import PrunePolicyError, UnsupportedModelError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.stats import Stats
from prunepolicy.pruning.units import UnitGraph

if TYPE_CHECKING:
    from prunepolicy.metanet.metanetwork import Metanetwork


class MetanetConfig(PolicyConfig):
    """Settings of a metanetwork policy.

    Attributes:
        layers: rounds of messages.
        hidden: numbers per channel and per weight.
        step: how far weights move, as a share of their root mean square, where the metanetwork says 1.
        layer: name of the edge layer.
        taps: kernel sizes that are read as they are.
        criterion: that ranks the units of the rewritten network.
        allocator: that spends budgets whose widths may differ.
    """

    layers: int = Field(default=4, ge=1, le=64)
    hidden: int = Field(default=16, ge=2, le=1024, multiple_of=2)
    step: float = Field(default=0.01, gt=0)
    layer: str = "two_way_product"
    taps: tuple[int, ...] = (1, 9, 25, 49, 256)
    criterion: str = "group_norm"
    allocator: str = "global_score"


class Metanet(Policy):
    """Rewrites weights so that little is lost when a criterion chooses; untrained it changes nothing."""

    config_type: ClassVar[type[PolicyConfig]] = MetanetConfig
    rewrites: ClassVar[bool] = True
    config: MetanetConfig

    def __init__(self, config: MetanetConfig | None = None, name: str = "") -> None:
        super().__init__(config, name)
        try:
            # torch-geometric is imported by the metanetwork's layers, so only where a policy is built.
            from prunepolicy.metanet.metanetwork import Metanetwork, MetanetworkSettings
        except ImportError as error:
            raise PrunePolicyError("Metanetworks need an extra: pip install 'prunepolicy[train]'.") from error
        chosen = self.config.model_dump(include={"layers", "hidden", "step", "layer", "taps"})
        self.network: Metanetwork = Metanetwork(MetanetworkSettings(**chosen))
        self.ranking = Heuristic(
            HeuristicConfig(criterion=self.config.criterion, allocator=self.config.allocator), self.name
        )

    @classmethod
    def restore(cls, folder: Path, config: MetanetConfig, name: str) -> Self:
        """Build the policy and read its weights."""
        policy = cls(config, name)
        policy.network.load_state_dict(restored_weights(folder, policy.weights()))
        return policy

    def weights(self) -> Mapping[str, Tensor]:
        """Return the metanetwork's weights."""
        return self.network.state_dict()

    def rewritten(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Let the metanetwork change a network's weights, block by block, so that large networks fit.

        Raises:
            UnsupportedModelError: when weights on the network's graph are stored under no name of their own.
        """
        from prunepolicy.metanet.weight_graph import weight_graph_of

        graph = weight_graph_of(dict(config))
        missing = sorted(graph.claimed - weights.keys())
        if missing:
            raise UnsupportedModelError(f"The policy {self.name!r} can't read {missing[0]} of this network.")
        with torch.no_grad():
            changed: dict[str, Tensor] = self.network.streamed()(graph, weights)
        return changed

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return what the criterion reads of the rewritten network."""
        return self.ranking.needs(graph, budget)

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Let the criterion rank, and an allocator spend the budget.

        Where a configuration states every width by itself, equal ones would win nothing, so they may differ.

        Raises:
            BudgetError: when the budget can't be met.
        """
        if all(len(groups) == 1 for groups in graph.ties.values()):
            budget = replace(budget, uniform=False)
        return self.ranking.plan(graph, stats, budget, instruments)


policies.add("metanet", Metanet)
