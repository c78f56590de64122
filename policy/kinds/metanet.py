"""The metanetwork as a policy: it reads a network's weights, and helps an ordinary criterion to choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.policy.base import Instruments, PolicyConfig, StoredPolicy, policies
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.criteria import Scores
from prunepolicy.pruning.errors import MissingExtraError, UnsupportedModelError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

if TYPE_CHECKING:
    from prunepolicy.metanet.weight_network.metanetwork import Metanetwork
    from prunepolicy.metanet.weight_network.proposals import Proposal

SEEN = "metanet_score"
"""The statistic that heads which correct scores read from weights."""


class MetanetConfig(HeuristicConfig):
    """Settings of a metanetwork policy, and of the ranking that it helps.

    Attributes:
        head: what the metanetwork says: other `weights`, `gates` that scale what is read of every unit,
            `scores` that correct the criterion's unit by unit, or `decisions` that do so group by group.
        layers: rounds of messages.
        hidden: numbers per channel and per weight.
        step: how far weights move, as a share of their root mean square, where the metanetwork says 1.
        layer: name of the edge layer.
        taps: kernel sizes that are read as they are.
    """

    head: Literal["weights", "gates", "scores", "decisions"] = "weights"
    layers: int = Field(default=4, ge=1, le=64)
    hidden: int = Field(default=16, ge=2, le=1024, multiple_of=2)
    step: float = Field(default=0.01, gt=0)
    layer: str = "two_way_product"
    taps: tuple[int, ...] = (1, 9, 25, 49, 256)
    criterion: str = "group_norm"
    allocator: str = "global_score"


@policies.register
class Metanet(Heuristic):
    """Rewrites weights so that little is lost when a criterion chooses, or corrects the criterion's scores.

    Untrained it changes nothing.
    """

    config_type: ClassVar[type[PolicyConfig]] = MetanetConfig
    config: MetanetConfig

    def __init__(self, config: MetanetConfig | None = None, name: str = "") -> None:
        config = config or MetanetConfig()
        super().__init__(config, name or "metanet")
        # torch-geometric is imported by the metanetwork's layers, so only where a policy is built.
        from prunepolicy.metanet.weight_network.metanetwork import Metanetwork, MetanetworkSettings

        chosen = config.model_dump(include={"head", "layers", "hidden", "step", "layer", "taps"})
        try:
            self.network: Metanetwork = Metanetwork(MetanetworkSettings(**chosen))
        except ImportError as error:
            raise MissingExtraError("Metanetworks need", "train") from error

    @classmethod
    def restore(cls, stored: StoredPolicy, config: MetanetConfig, name: str) -> Self:
        """Build the policy and read its weights."""
        policy = cls(config, name)
        policy.network.load_state_dict(stored.weights(policy.weights()))
        return policy

    def weights(self) -> Mapping[str, Tensor]:
        """Return the metanetwork's weights."""
        return self.network.state_dict()

    @property
    def rewrites(self) -> bool:
        """Whether weights change; what corrects scores leaves them as they are."""
        return self.config.head in ("weights", "gates")

    def rewritten(self, checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Let the metanetwork change a network's weights, block by block, so that large networks fit.

        Raises:
            UnsupportedModelError: when weights on the network's graph are stored under no name of their own.
        """
        return self._proposed(checkpoint, weights).weights

    def read(self, checkpoint: Checkpoint) -> Stats:
        """Return what the metanetwork adds to the logarithm of every unit's score.

        Raises:
            UnsupportedModelError: when weights on the network's graph are stored under no name of their own.
        """
        if self.rewrites:
            return Stats()
        scores = self._proposed(checkpoint, checkpoint.running()).scores
        return Stats({SEEN: {name: score.cpu() for name, score in scores.items()}})

    def scores(self, graph: UnitGraph, groups: tuple[UnitGroup, ...], stats: Stats, budget: Budget) -> Scores:
        """Return the criterion's scores, corrected where the metanetwork has an output for units."""
        scores = super().scores(graph, groups, stats, budget)
        if self.rewrites:
            return scores
        return {name: score * stats.get(SEEN, name).exp() for name, score in scores.items()}

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Rank, and let an allocator spend the budget.

        Raises:
            BudgetError: when the budget can't be met.
        """
        return super().plan(graph, stats, _free(graph, budget), instruments)

    def check(self, graph: UnitGraph, budget: Budget, instruments: Instruments | None = None) -> None:
        """Raise what `plan` would raise whatever the scores are."""
        super().check(graph, _free(graph, budget), instruments)

    def _proposed(self, checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> Proposal:
        """Return what becomes of a network as the metanetwork wants it."""
        from prunepolicy.metanet.weight_network.blueprint import Blueprint
        from prunepolicy.metanet.weight_network.proposals import head_output, proposal

        network = Blueprint.of(checkpoint)
        missing = sorted(network.graph.claimed - weights.keys())
        if missing:
            raise UnsupportedModelError(f"The policy {self.name!r} can't read {missing[0]} of this network.")
        with torch.no_grad():
            output = head_output(self.network.streamed(), network, weights)
            return proposal(self.config.head, network, weights, output)


def _free(graph: UnitGraph, budget: Budget) -> Budget:
    """Let widths differ where a configuration states every one by itself: equal ones would win nothing."""
    alone = all(len(groups) == 1 for groups in graph.ties.values())
    return replace(budget, uniform=False) if alone else budget
