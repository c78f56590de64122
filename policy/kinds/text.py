"""Text: which channels a text needs, from a few of its tokens and what is known of texts of all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, field_validator
from torch import Tensor

from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, StoredPolicy, policies
from prunepolicy.policy.budgeting import check_spendable, spend, task_for, unscored
from prunepolicy.policy.text_scores import TextScorer, text_scorers
from prunepolicy.policy.weights import MOST_BYTES
from prunepolicy.pruning.criteria import Need, Scores
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.text_energy import TextEnergy, energy_of, outgoing_norms
from prunepolicy.pruning.units import UnitGraph, UnitGroup

Shape = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=4)]


class TextConfig(PolicyConfig):
    """Settings of a policy that reads text.

    Attributes:
        scorer: name of the text scorer.
        network: fingerprint of the checkpoint whose channels the scorer knows; empty before it was fitted.
        numbers: shapes of what the scorer has learned, by name.
    """

    scorer: str = "plain"
    network: str = ""
    numbers: dict[str, Shape] = Field(default_factory=dict)

    @field_validator("numbers")
    @classmethod
    def _fits_a_file(cls, numbers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Refuse shapes that no policy's file could hold, before memory is asked for."""
        if sum(4 * prod(shape) for shape in numbers.values()) > MOST_BYTES:
            raise ValueError("the numbers have at most a gigabyte")
        return numbers


@dataclass(frozen=True)
class ShownText:
    """A text that a policy was shown.

    Attributes:
        few: statistic of its tokens.
        norms: FFN group name to the norms of the down projection's columns.
    """

    few: TextEnergy
    norms: Mapping[str, Tensor]


@policies.register
class Text(Policy):
    """Keeps, at equal widths, the channels with the highest scores for one text."""

    config_type: ClassVar[type[PolicyConfig]] = TextConfig
    config: TextConfig

    def __init__(
        self, config: TextConfig | None = None, name: str = "", numbers: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__(config, name)
        self.scorer: TextScorer = text_scorers[self.config.scorer]()
        self.scorer.numbers = dict(numbers or {})
        self._shown: ShownText | None = None

    @classmethod
    def restore(cls, stored: StoredPolicy, config: TextConfig, name: str) -> Self:
        """Build the policy and read what its scorer has learned."""
        like = {key: torch.empty(shape, device="meta") for key, shape in config.numbers.items()}
        return cls(config, name, stored.weights(like) if like else None)

    @classmethod
    def fitted(cls, scorer: str, numbers: Mapping[str, Tensor], network: str, **settings: object) -> Self:
        """Return a policy with a scorer that has learned about the checkpoint with fingerprint `network`."""
        shapes = {key: tuple(value.shape) for key, value in numbers.items()}
        config = TextConfig.model_validate(
            {**settings, "scorer": scorer, "network": network, "numbers": shapes}
        )
        return cls(config, numbers=numbers)

    def weights(self) -> Mapping[str, Tensor]:
        """Return what the scorer has learned."""
        return self.scorer.numbers

    def shown(self, few: TextEnergy, norms: Mapping[str, Tensor]) -> Self:
        """Return this policy as it plans for a text of which it has seen a few tokens."""
        reader = copy(self)
        reader._shown = ShownText(few, norms)
        return reader

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return the activations on the text, unless it was shown already."""
        return {"activations"} if self._shown is None else set()

    def check(self, graph: UnitGraph, budget: Budget, instruments: Instruments | None = None) -> None:
        """Raise what `plan` would raise whatever the text is."""
        groups = self.groups(graph, budget)
        check_spendable(unscored(graph, groups, budget, instruments, comparable=False), ("ffn",))

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Find the width that meets the budget, and keep the best channels of every block.

        Raises:
            BudgetError: when the budget can't be met.
            UsageError: when other kinds of unit are to go, widths are to differ by layer, or the scorer knows
                the channels of another network.
        """
        groups = self.groups(graph, budget)
        if self.config.network and stats.fingerprint != self.config.network:
            raise UsageError(
                f"The policy {self.name!r} knows texts as another network reads them; train one on this "
                "network: prunepolicy train configs/train/text.yaml --set models=[MODEL]."
            )
        scores = self.scores(graph, stats)
        chosen = {group.name: scores[group.name] for group in groups}
        task = task_for(graph, chosen, budget, instruments or Instruments(), comparable=False)
        return Plan(spend(task), budget, self.name)

    def scores(self, graph: UnitGraph, stats: Stats) -> Scores:
        """Return what decides who stays."""
        shown = self._shown or ShownText(energy_of(stats, graph), outgoing_norms(stats, graph))
        return self.scorer.scores(shown.few, shown.norms)

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the feed-forward blocks.

        Raises:
            UsageError: when the budget names other kinds, or widths are to differ by layer, or the network
                has no such block.
        """
        if not budget.uniform:
            raise UsageError(f"The policy {self.name!r} chooses channels at equal widths; drop --per-layer.")
        groups = graph.of_kind("ffn")
        if set(budget.kinds) - {"ffn"} or not groups:
            raise UsageError(
                f"The policy {self.name!r} removes FFN channels only; "
                "add --units ffn or --of ffn, or choose another policy."
            )
        return groups
