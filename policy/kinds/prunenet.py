"""PruneNet's row policy: which channels of every feed-forward block stay, from the rows alone.

Source: Sengupta et al., "You Only Prune Once", ICLR 2025. The published predictor and its noise are
`scorer: affine` with `selection: concrete`; the defaults mend what keeps it from learning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator
from torch import Tensor

from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, StoredPolicy, policies
from prunepolicy.policy.budgeting import check_spendable, spend, unscored, without_removed
from prunepolicy.policy.row_sampling import concrete, draw_by_weight
from prunepolicy.policy.row_scorers import AffineScorer, RowScorer
from prunepolicy.policy.weights import MOST_BYTES
from prunepolicy.pruning.allocators.registry import kept_by_score
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.row_features import FEATURES, row_features
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

NEEDS: dict[str, Need] = {"weights": "rows", "activations": "activations", "gradients": "gradients"}


class PruneNetConfig(PolicyConfig):
    """Settings of a row policy.

    Attributes:
        scorer: `mlp` reads scale-free features and fits any size; `affine` is the published one.
        selection: `top_k` keeps the best rows; `concrete` draws them with noise, as published.
        features: what the `mlp` reads of every row.
        hidden: its width.
        bound: largest absolute score.
        shape: rows and columns of the scored matrix, for `affine`.
    """

    scorer: Literal["mlp", "affine"] = "mlp"
    selection: Literal["top_k", "concrete"] = "top_k"
    features: tuple[Literal["weights", "activations", "gradients"], ...] = Field(
        default=("weights", "activations", "gradients"), min_length=1
    )
    hidden: int = Field(default=64, ge=1, le=4096)
    bound: float = Field(default=8.0, gt=0)
    shape: tuple[int, int] | None = None

    @field_validator("shape")
    @classmethod
    def _fits_a_file(cls, shape: tuple[int, int] | None) -> tuple[int, int] | None:
        """Refuse matrices that no policy's file could hold, before memory is asked for."""
        if shape is not None and (min(shape) < 1 or 4 * shape[0] * shape[1] > MOST_BYTES):
            raise ValueError("rows and columns are positive, and the matrix has at most a gigabyte")
        return shape


@policies.register
class PruneNet(Policy):
    """Scores rows with one small network that all layers share."""

    config_type: ClassVar[type[PolicyConfig]] = PruneNetConfig
    config: PruneNetConfig

    def __init__(self, config: PruneNetConfig | None = None, name: str = "") -> None:
        super().__init__(config, name)
        self.scorer = _scorer(self.config)

    @classmethod
    def restore(cls, stored: StoredPolicy, config: PruneNetConfig, name: str) -> Self:
        """Build the policy and read its weights."""
        policy = cls(config, name)
        policy.scorer.load_state_dict(stored.weights(policy.weights()))
        return policy

    def weights(self) -> Mapping[str, Tensor]:
        """Return the scorer's weights."""
        return self.scorer.state_dict()

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return what the rows' features are made of."""
        if self.config.scorer == "affine":
            return {"scored"}
        return {NEEDS[name] for name in self.config.features}

    def check(self, graph: UnitGraph, budget: Budget, instruments: Instruments | None = None) -> None:
        """Raise what `plan` would raise whatever the rows are."""
        groups = self.groups(graph, budget)
        check_spendable(unscored(graph, groups, budget, instruments, comparable=False), ("ffn",))

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Find the width that meets the budget, and keep the best rows of every block.

        Raises:
            BudgetError: when the budget can't be met.
            UsageError: when other kinds of unit are to go, or widths are to differ by layer.
        """
        instruments = instruments or Instruments()
        groups = self.groups(graph, budget)
        widths = spend(unscored(graph, groups, budget, instruments, comparable=False))
        scores = {}
        for index, group in enumerate(groups):
            count = len(widths.get(group.name, range(group.size)))
            context = context_of(count / group.size, index, len(groups))
            with torch.no_grad():
                scores[group.name] = self.scorer(self.rows(stats, group), context)
        scores = without_removed(scores, instruments.within, graph)
        keep = {
            name: self._chosen(graph[name], scores[name], len(units), stats.seed)
            for name, units in widths.items()
        }
        return Plan(keep, budget, self.name)

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the feed-forward blocks.

        Raises:
            UsageError: when the budget names other kinds, or widths are to differ by layer, or the network
                has no such block.
        """
        if not budget.uniform:
            raise UsageError(f"The policy {self.name!r} chooses rows at equal widths; drop --per-layer.")
        groups = graph.of_kind("ffn")
        if set(budget.kinds) - {"ffn"} or not groups:
            raise UsageError(
                f"The policy {self.name!r} removes FFN channels only; "
                "add --units ffn or --of ffn, or choose another policy."
            )
        return groups

    def rows(self, stats: Stats, group: UnitGroup) -> Tensor:
        """Return what the scorer reads of a block's rows.

        Raises:
            PrunePolicyError: when the block has another shape than the policy knows.
        """
        if self.config.scorer == "mlp":
            return row_features(stats, group, self.config.features)
        scored = stats.get("scored", group.name)
        if tuple(scored.shape) != self.config.shape:
            raise PrunePolicyError(
                f"The policy {self.name!r} knows matrices of {self.config.shape} only; {group.name!r} has "
                f"{tuple(scored.shape)}. The scorer `mlp` fits any size."
            )
        return scored

    def _chosen(self, group: UnitGroup, scores: Tensor, count: int, seed: int) -> tuple[int, ...]:
        if self.config.selection == "top_k":
            return kept_by_score(group, scores, count)
        digest = hashlib.sha256(f"{seed}/{group.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        return tuple(draw_by_weight(concrete(scores, generator), count, generator).tolist())


def context_of(keep: float, index: int, layers: int) -> Tensor:
    """Return what the scorer knows beside the rows: keep ratio and depth in [0, 1]."""
    return torch.tensor([keep, index / max(1, layers - 1)])


def _scorer(config: PruneNetConfig) -> RowScorer | AffineScorer:
    if config.scorer == "mlp":
        features = sum(len(FEATURES[name]) for name in config.features)
        return RowScorer(features, config.hidden, config.bound)
    if config.shape is None:
        raise UsageError("The affine scorer knows one shape only: give shape: [rows, columns].")
    return AffineScorer(*config.shape)
