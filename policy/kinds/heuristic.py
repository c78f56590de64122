"""A criterion and an allocator: the policy that learned ones have to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, policies
from prunepolicy.pruning.allocators import Task, allocate, allocators
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.criteria import Criterion, Need, criteria
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.probe import Probe
from prunepolicy.pruning.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

MOST_ROUNDS = 64
FREE_KINDS = ("ffn", "kv_head", "query_head", "expert", "channel")
MAIN_KINDS = ("ffn", "expert", "channel", "layer")


class HeuristicConfig(PolicyConfig):
    """Settings of a heuristic policy.

    Attributes:
        criterion: name of the score.
        per_layer_criterion: the score where layers may differ, None for the same one.
        allocator: name of the allocator for per-layer budgets; uniform budgets use `uniform`.
        rounds: removal rounds; statistics are measured anew after each.
        repair: name of the repair after the cut, None for none.
        probe: what the model is watched on; a policy may come from anywhere, so it names no file.
    """

    criterion: str = "fisher_activation"
    per_layer_criterion: str | None = None
    allocator: str = "global_rank"
    rounds: int = Field(default=1, ge=1, le=MOST_ROUNDS)
    repair: str | None = None
    samples: int = Field(default=64, ge=1)
    length: int = Field(default=128, ge=2)
    probe: Literal["self", "start"] = "self"


class Heuristic(Policy):
    """Scores units with a criterion and lets an allocator spend the budget."""

    config_type: ClassVar[type[PolicyConfig]] = HeuristicConfig

    def __init__(self, config: HeuristicConfig, name: str = "") -> None:
        self.config: HeuristicConfig = config
        self.name = name or config.criterion
        # Looked up now, so that a wrong name is refused before anything runs.
        self._criterion = criteria[config.criterion]
        self._per_layer = criteria[config.per_layer_criterion or config.criterion]
        allocators[config.allocator]

    @classmethod
    def restore(cls, folder: Path, config: HeuristicConfig, name: str) -> Self:
        """Build the policy; a heuristic has no weights."""
        return cls(config, name)

    @property
    def probe(self) -> Probe:
        """The inputs on which the model is to be watched."""
        return Probe(self.config.probe, self.config.samples, self.config.length)

    @property
    def repair(self) -> str | None:
        """The repair that follows the cut."""
        return self.config.repair

    def in_rounds(self, rounds: int) -> Policy:
        """Return this policy, removing in `rounds` steps."""
        if not 1 <= rounds <= MOST_ROUNDS:
            raise UsageError(f"rounds must be between 1 and {MOST_ROUNDS}; got {rounds}.")
        return Heuristic(self.config.model_copy(update={"rounds": rounds}), self.name)

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return what the criterion reads."""
        return set(self.criterion(budget).needs)

    def criterion(self, budget: Budget) -> Criterion:
        """Return the score for a budget: across layers it has to be comparable."""
        return self._criterion if budget.uniform else self._per_layer

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Score, allocate, and repeat for as many rounds as configured.

        Raises:
            BudgetError: when the budget can't be met.
        """
        instruments = instruments or Instruments()
        groups, criterion = self.groups(graph, budget), self.criterion(budget)
        rounds = self.config.rounds if instruments.refresh else 1
        outer = instruments.within.keep if instruments.within else {}
        plan = Plan(outer, budget, self.name)
        for number in range(1, rounds + 1):
            step = replace(budget, keep=budget.keep ** (number / rounds))
            scores = criterion(graph, groups, stats)
            task = Task(
                graph,
                groups,
                _without_removed(scores, plan, graph),
                step,
                meter_for(graph, step, instruments.seconds),
                criterion.comparable,
            )
            keep = allocate("uniform" if budget.uniform else self.config.allocator, task)
            keep = {name: units for name, units in keep.items() if len(units) < graph[name].size}
            plan = replace(plan, keep=keep)
            if number < rounds and instruments.refresh:
                stats = stats.merged(instruments.refresh(plan))
        return plan

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the groups that may lose units under `budget`.

        Raises:
            UsageError: when the network has none of the named kinds, or the criterion can't score
                them.
        """
        criterion = self.criterion(budget)
        kinds = budget.kinds or _default_kinds(graph, criterion)
        groups = graph.of_kind(*kinds)
        if not groups:
            raise UsageError(f"This {graph.family} network has no {budget.of} to prune.")
        allowed = criterion.kinds
        if allowed and any(group.kind not in allowed for group in groups):
            raise UsageError(
                f"The criterion {self.config.criterion!r} scores {', '.join(allowed)} only; "
                f"add --units {allowed[0]}s or --of {allowed[0]}s."
            )
        return groups


def _default_kinds(graph: UnitGraph, criterion: Criterion) -> tuple[str, ...]:
    if criterion.kinds:
        return criterion.kinds
    if criterion.comparable:
        return tuple(kind for kind in FREE_KINDS if kind in graph.kinds) or ("layer",)
    return next(((kind,) for kind in MAIN_KINDS if kind in graph.kinds), ())


def _without_removed(scores: Mapping[str, Tensor], plan: Plan, graph: UnitGraph) -> dict[str, Tensor]:
    """Give units that earlier rounds removed the score minus infinity."""
    remaining = {}
    for name, score in scores.items():
        masked = torch.full_like(score, -torch.inf)
        kept = list(plan.kept(graph[name]))
        masked[kept] = score[kept]
        remaining[name] = masked
    return remaining


policies.add("heuristic", Heuristic)
