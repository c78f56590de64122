"""A criterion and an allocator: the policy that learned ones have to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

from pydantic import Field

from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, policies
from prunepolicy.policy.budgeting import (
    FREE_KINDS,
    check_spendable,
    groups_of,
    main_kind,
    spend,
    task_for,
    unscored,
)
from prunepolicy.policy.rounds import MOST_ROUNDS, checked_rounds, plan_in_rounds
from prunepolicy.pruning.allocators import allocators
from prunepolicy.pruning.criteria import Criterion, Need, Scores, criteria
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import KIND_OF, Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import VOCABULARY, UnitGraph, UnitGroup


class HeuristicConfig(PolicyConfig):
    """Settings of a heuristic policy.

    Attributes:
        criterion: name of the score.
        per_layer_criterion: the score where layers may differ, None for the same one.
        token_criterion: the score of a vocabulary's tokens, None for the same one.
        allocator: name of the allocator for per-layer budgets; uniform budgets use `uniform`.
        rounds: removal rounds; statistics are measured anew after each.
    """

    criterion: str = "fisher_activation"
    per_layer_criterion: str | None = None
    token_criterion: str | None = None
    allocator: str = "global_rank"
    rounds: int = Field(default=1, ge=1, le=MOST_ROUNDS)


@policies.register
class Heuristic(Policy):
    """Scores units with a criterion and lets an allocator spend the budget."""

    config_type: ClassVar[type[PolicyConfig]] = HeuristicConfig
    config: HeuristicConfig

    def __init__(self, config: HeuristicConfig | None = None, name: str = "") -> None:
        super().__init__(config, name)
        self.name = name or self.config.criterion
        # Looked up now, so that a wrong name is refused before anything runs.
        self._criterion = criteria[self.config.criterion]
        self._per_layer = criteria[self.config.per_layer_criterion or self.config.criterion]
        self._of_tokens = criteria[self.config.token_criterion] if self.config.token_criterion else None
        allocators[self.config.allocator]

    def in_rounds(self, rounds: int) -> Self:
        """Return this policy, removing in `rounds` steps; what has gone stays gone."""
        return self.with_settings(rounds=checked_rounds(rounds))

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return what the criteria read."""
        kinds = {group.kind for group in self.groups(graph, budget)}
        return {need for kind in kinds for need in self.criterion(budget, kind).needs}

    def scores(self, graph: UnitGraph, groups: tuple[UnitGroup, ...], stats: Stats, budget: Budget) -> Scores:
        """Return what decides who stays."""
        return {
            name: score
            for group in groups
            for name, score in self.criterion(budget, group.kind)(graph, (group,), stats).items()
        }

    def criterion(self, budget: Budget, kind: str = "") -> Criterion:
        """Return the score for a kind of unit under a budget.

        Across layers, and between tokens and other units, it has to be comparable.
        """
        if kind == VOCABULARY and self._of_tokens is not None:
            return self._of_tokens
        mixes = VOCABULARY in budget.kinds and len(budget.kinds) > 1
        return self._criterion if budget.uniform and not mixes else self._per_layer

    def comparable(self, groups: Sequence[UnitGroup], budget: Budget) -> bool:
        """Return whether the scores of some groups can be compared with each other."""
        return all(self.criterion(budget, group.kind).comparable for group in groups)

    def check(self, graph: UnitGraph, budget: Budget, instruments: Instruments | None = None) -> None:
        """Raise what `plan` would raise whatever the scores are."""
        groups = self.groups(graph, budget)
        task = unscored(graph, groups, budget, instruments, self.comparable(groups, budget))
        check_spendable(task, self.criterion(budget).kinds, self.config.allocator)

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Score, allocate, and repeat for as many rounds as configured.

        Raises:
            BudgetError: when the budget can't be met.
        """
        instruments = instruments or Instruments()
        groups = self.groups(graph, budget)
        comparable = self.comparable(groups, budget)

        def decide(stats: Stats, step: Budget, before: Plan | None) -> Plan:
            left = replace(instruments, within=before or instruments.within)
            scores = self.scores(graph, groups, stats, budget)
            task = task_for(graph, scores, step, left, comparable)
            return Plan(spend(task, self.config.allocator), step, self.name)

        return plan_in_rounds(decide, stats, budget, instruments, self.config.rounds)

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the groups that may lose units under `budget`.

        Raises:
            UsageError: when the network has none of the named kinds, or the criterion can't score
                them.
        """
        criterion = self.criterion(budget)
        groups = groups_of(graph, budget, budget.kinds or _default_kinds(graph, criterion))
        for group in groups:
            self._check_scores(group.kind, self.criterion(budget, group.kind))
        return groups

    def _check_scores(self, kind: str, criterion: Criterion) -> None:
        """Raise `UsageError` where a criterion can't score a kind of unit."""
        if criterion.kinds and kind not in criterion.kinds:
            unit = next(unit for unit, kinds in KIND_OF.items() if criterion.kinds[0] in kinds)
            raise UsageError(
                f"The criterion {self.config.criterion!r} scores {', '.join(criterion.kinds)} only; "
                f"add --units {unit} or --of {unit}."
            )
        if kind == VOCABULARY and not criterion.kinds:
            raise UsageError(
                f"The criterion {self.config.criterion!r} scores no tokens; leave --policy out, or say "
                "--policy token_cost."
            )


def _default_kinds(graph: UnitGraph, criterion: Criterion) -> tuple[str, ...]:
    if criterion.kinds:
        return criterion.kinds
    if criterion.comparable:
        return tuple(kind for kind in FREE_KINDS if kind in graph.kinds) or ("layer",)
    return main_kind(graph)
