"""What a policy keeps of every group while it learns: for the metrics, and for a picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from prunepolicy.agents.learned_pruning.evaluator import Evaluator, mean
from prunepolicy.policy.base import Policy
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph, UnitGroup

KEPT, MOVED = "kept/", "moved/"


@dataclass
class KeepTracker:
    """Describes plans for the first evaluation model at the middle budget.

    Where widths may differ, that is the share kept of every group. Where they are equal, the share says
    nothing: there it is the share of the kept units that the best heuristic would have removed.

    Attributes:
        evaluator: whose models and budgets are looked at.
        heuristics: names of the policies among which the best is looked for.
    """

    evaluator: Evaluator
    heuristics: Sequence[str]

    def __post_init__(self) -> None:
        budgets = sorted(self.evaluator.budgets, key=lambda budget: budget.keep)
        self.session, self.budget = self.evaluator.sessions[0], budgets[len(budgets) // 2]

    @property
    def graph(self) -> UnitGraph:
        """The units of the model that is looked at."""
        return self.session.checkpoint.graph

    @cached_property
    def best_heuristic(self) -> Policy | None:
        """The heuristic that the evaluator prefers at this model and budget; None where there is none."""
        evaluator = replace(self.evaluator, sessions=(self.session,), budgets=(self.budget,))
        policies = map(load_policy, self.heuristics)
        return min(policies, key=lambda policy: mean(evaluator.scores(policy)), default=None)

    @cached_property
    def _reference(self) -> Plan | None:
        rival = self.best_heuristic
        return self.evaluator.plan(self.session, rival, self.budget) if rival else None

    @property
    def rival_name(self) -> str:
        """What plans are compared with at equal widths."""
        return self.best_heuristic.name if self.best_heuristic else "nothing"

    def row(self, policy: Policy) -> dict[str, float]:
        """Return a number in [0, 1] for every group of the kinds that lose units, under metric names."""
        plan = self.evaluator.plan(self.session, policy, self.budget)
        kinds = {self.graph[name].kind for name in plan.keep}
        groups = self.graph.of_kind(*kinds) if kinds else ()
        if not self.budget.uniform:
            return {KEPT + group.name: len(plan.kept(group)) / group.size for group in groups}
        if self._reference is None:
            return {}
        return {MOVED + group.name: moved_share(group, plan, self._reference) for group in groups}


def moved_share(group: UnitGroup, plan: Plan, reference: Plan) -> float:
    """Return the share of the units that `plan` keeps which `reference` removes."""
    kept = set(plan.kept(group))
    return len(kept - set(reference.kept(group))) / len(kept)


def history(rows: Sequence[Mapping[str, float]], prefix: str) -> list[tuple[int, dict[str, float]]]:
    """Return what `KeepTracker.row` logged under `prefix`: (step, number by group)."""
    found = [
        (int(row["step"]), {key.removeprefix(prefix): row[key] for key in row if key.startswith(prefix)})
        for row in rows
    ]
    return [(step, shares) for step, shares in found if shares]
