"""Gates: one learned score per unit of one network; another network needs scores of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, StoredPolicy, policies
from prunepolicy.policy.budgeting import check_spendable, searched_groups, spend, task_for, unscored
from prunepolicy.pruning.criteria import Need, criteria
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats, group_costs
from prunepolicy.pruning.units import UnitGraph, UnitGroup

MOST_UNITS = 1 << 40
"""Of one group; more is no number to compute with."""
Logits = Mapping[str, Tensor]
"""Per group one number per unit, comparable in the whole network, higher means keep."""


class GatesConfig(PolicyConfig):
    """Settings of learned gates.

    Attributes:
        criterion: the heuristic whose order is the start; without learned scores it decides alone.
        network: fingerprint of the checkpoint whose units were learned; empty when none were.
        units: size of every learned group.
    """

    criterion: str = "fisher_activation"
    network: str = ""
    units: dict[str, Annotated[int, Field(ge=0, le=MOST_UNITS)]] = Field(default_factory=dict)


@policies.register
class Gates(Policy):
    """Keeps the units with the highest learned scores, at any budget."""

    config_type: ClassVar[type[PolicyConfig]] = GatesConfig
    config: GatesConfig

    def __init__(
        self, config: GatesConfig | None = None, name: str = "", logits: Logits | None = None
    ) -> None:
        super().__init__(config, name)
        self.logits = dict(logits or {})
        self._criterion = criteria[self.config.criterion]

    @classmethod
    def restore(cls, stored: StoredPolicy, config: GatesConfig, name: str) -> Self:
        """Build the policy and read its scores."""
        like = {group: torch.empty(size, device="meta") for group, size in config.units.items()}
        return cls(config, name, stored.weights(like) if like else None)

    def learned(self, logits: Logits, network: str) -> Self:
        """Return this policy with scores for the units of the checkpoint with fingerprint `network`."""
        units = {group: len(values) for group, values in logits.items()}
        learned = self.with_settings(network=network, units=units)
        learned.logits = dict(logits)
        return learned

    def weights(self) -> Mapping[str, Tensor]:
        """Return the learned scores."""
        return self.logits

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return what the start is made of; learned scores need nothing."""
        return set() if self.logits else set(self._criterion.needs)

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the groups that may lose units under `budget`."""
        return searched_groups(graph, budget)

    def check(self, graph: UnitGraph, budget: Budget, instruments: Instruments | None = None) -> None:
        """Raise what `plan` would raise whatever the scores are."""
        groups = self.groups(graph, budget)
        check_spendable(unscored(graph, groups, budget, instruments, comparable=not budget.uniform))

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Let an allocator spend the budget on the units with the highest scores.

        Raises:
            BudgetError: when the budget can't be met.
            UsageError: when the scores are those of another network, or of other units.
        """
        groups = self.groups(graph, budget)
        logits = self._known(groups, stats) if self.logits else self.start(graph, groups, stats)
        prices = {g.name: group_costs(graph, g, budget.of) for g in groups}
        scores = {name: logits[name].detach().double().exp() * price for name, price in prices.items()}
        instruments = instruments or Instruments()
        task = task_for(graph, scores, budget, instruments, comparable=not budget.uniform)
        return Plan(spend(task), budget, self.name)

    def start(self, graph: UnitGraph, groups: tuple[UnitGroup, ...], stats: Stats) -> dict[str, Tensor]:
        """Return the heuristic's scores per parameter as logarithms of mean 0 and deviation 1."""
        scores = self._criterion(graph, groups, stats)
        densities = [scores[group.name].double() / group_costs(graph, group) for group in groups]
        smallest = torch.finfo(torch.float32).tiny  # of units that do nothing at all
        logs = torch.cat(densities).clamp(min=smallest).log()
        logs = (logs - logs.mean()) / logs.std().clamp(min=smallest)
        parts = logs.float().split([group.size for group in groups])
        return {group.name: part for group, part in zip(groups, parts, strict=True)}

    def _known(self, groups: tuple[UnitGroup, ...], stats: Stats) -> Logits:
        if stats.fingerprint != self.config.network:
            raise UsageError(
                f"The policy {self.name!r} learned the units of another network; train gates on this one, "
                "or choose another policy."
            )
        missing = sorted({group.kind for group in groups if group.name not in self.logits})
        if missing:
            raise UsageError(
                f"The policy {self.name!r} learned no scores for units of the kind {', '.join(missing)}; "
                "ask for a budget of the kinds in its recipe."
            )
        return self.logits
