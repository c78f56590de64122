"""Pruning as an environment: an episode builds one plan for one network and one budget."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from prunepolicy.envs.prune_case import PruneCase, invented_case
from prunepolicy.envs.shaping import Outcomes, shapings
from prunepolicy.metanet.graph import (
    DECISIONS,
    EDGE_FEATURES,
    GLOBALS,
    GROUP_FEATURES,
    LARGEST,
)
from prunepolicy.pruning.errors import BudgetError, PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGroup

Observation = dict[str, NDArray[Any]]
Action = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Sizes:
    """The largest network's numbers of groups and edges: all observations have their shape."""

    groups: int
    edges: int

    @classmethod
    def of(cls, cases: Sequence[PruneCase]) -> Sizes:
        """Return the sizes that fit all `cases`."""
        described = [case.described for case in cases]
        return cls(
            max(len(d.groups) for d in described),
            max(1, *(d.edges.shape[1] for d in described)),
        )


class PruneEnv(gymnasium.Env[Observation, Action]):
    """Says group by group, or for all units at once, what stays; the budget is always met.

    Network and budget are drawn at reset. The reward comes at the end of the episode.

    Observation:
        groups, edges, edge_features, globals: as in `metanet.graph.GroupGraph`, padded with zeros.
        group_mask, edge_mask: 1 for what belongs to this network.
        kept: share of every group that stays as decided so far; current: 1 for groups to decide on.

    Action:
        group: the share of the current group that should stay, from -1 (nothing) to 1 (all). It is
            lowered where the groups still to come couldn't meet the budget any more; the Fisher ranking
            says which units. With `may_stop`, a positive second number leaves all further groups whole.
        all: for every group, one after the other, what `metanet.graph.DECISIONS` names; what lies
            beyond the mask is ignored.

    Args:
        cases: the networks; invented ones when None.
        keep: range from which the budget's size is drawn.
        shaping: name of the reward.
        step: `group` or `all`.
        may_stop: whether an episode may end before the budget is met.
        rounds: with `step="all"`, steps in which the budget is approached. Statistics are measured anew
            after each, and units that went may come back.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (declared by the base class)

    def __init__(
        self,
        cases: Sequence[PruneCase] | None = None,
        keep: tuple[float, float] = (0.5, 0.95),
        shaping: str = "quality",
        step: Literal["group", "all"] = "group",
        may_stop: bool = False,
        rounds: int = 1,
    ) -> None:
        self.cases = tuple(cases or (invented_case(0), invented_case(1, widths=24, layers=2)))
        self.keep, self.shaping, self.mode, self.may_stop = keep, shapings[shaping], step, may_stop
        self.rounds = rounds
        self._check()
        self.sizes = Sizes.of(self.cases)
        self.observation_space: spaces.Space[Any] = spaces.Dict(self._spaces())
        length = self.sizes.groups * len(DECISIONS) if step == "all" else 1 + may_stop
        self.action_space: spaces.Space[Any] = spaces.Box(-1, 1, (length,), np.float32)
        self._start(self.cases[0], keep[1])

    def _check(self) -> None:
        low, high = self.keep
        if not 0 < low <= high <= 1:
            raise UsageError(f"keep is a range of fractions above 0 and at most 1; got {self.keep}.")
        if self.may_stop and (self.mode == "all" or "used" not in self.shaping.reads):
            raise UsageError("may_stop needs step='group' and a shaping that reads what was used (ternary).")
        if self.rounds < 1 or (self.rounds > 1 and self.mode != "all"):
            raise UsageError(f"rounds needs step='all' and a number of at least 1; got {self.rounds}.")
        for case in self.cases:
            if self.rounds > 1 and case.refresh is None:
                raise UsageError(f"{case.name} can't measure statistics anew, so it knows no rounds.")
            if self.mode == "group" and case.budget.uniform:
                raise UsageError("Equal widths leave no ratios to choose; use step='all', or uniform=False.")
            least = case.meter({group.name: tuple(range(group.floor)) for group in case.groups})
            if least > low:
                raise BudgetError(f"{case.name} can't get below keep {least:.4f} of {case.budget.of}.")

    def _start(self, case: PruneCase, keep: float) -> None:
        self.case, self.budget = case, replace(case.budget, keep=keep)
        self._decided: dict[str, tuple[int, ...]] = {}
        self._round, self._seen = 1, case.described

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a network and a budget; `options` may fix them as `network` (index) and `keep`."""
        super().reset(seed=seed)
        options = options or {}
        drawn = int(self.np_random.integers(len(self.cases)))
        keep = round(float(self.np_random.uniform(*self.keep)), 2)  # whole percents come again
        self._start(self.cases[int(options.get("network", drawn))], float(options.get("keep", keep)))
        return self._observation(), {"network": self.case.name, "keep": self.budget.keep}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Decide on one group, or on everything; the last decision is paid for."""
        action = np.asarray(action, np.float32)
        if self.mode == "all":
            done = self._decide_all(action)
        else:
            stopped = self.may_stop and bool(action[1] > 0)
            self._decide(self._current(), float(action[0]), stopped)
            done = stopped or len(self._decided) == len(self.case.groups)
        if not done:
            return self._observation(), 0.0, False, False, {}
        reward = float(self.shaping(self.outcomes())[0])
        used = self.case.meter(self._decided)
        return self._observation(), reward, True, False, {"used": used, "network": self.case.name}

    def plan(self) -> Plan:
        """Return the plan as decided so far; undecided groups stay whole."""
        keep = {n: units for n, units in self._decided.items() if len(units) < self.case.graph[n].size}
        return Plan(keep, self.budget, "environment")

    def outcomes(self) -> Outcomes:
        """Measure the plan as decided so far: the columns that the shaping reads."""
        case = self.case
        measures: dict[str, Callable[[], float]] = {
            "loss_rise": lambda: case.rise(self._decided),
            "reference_rise": lambda: case.reference_rise(self.budget),
            "used": lambda: case.meter(self._decided),
            "budget": lambda: self.budget.keep,
        }
        unknown = [name for name in self.shaping.reads if name not in measures]
        if unknown:
            raise PrunePolicyError(f"Prune doesn't measure {unknown[0]!r}, only {', '.join(measures)}.")
        return Outcomes({name: np.array([measures[name]()]) for name in self.shaping.reads})

    def _current(self) -> UnitGroup:
        return self.case.groups[len(self._decided)]

    def _decide(self, group: UnitGroup, wish: float, stopped: bool) -> None:
        share = 1.0 if stopped else (np.clip(wish, -1, 1) + 1) / 2
        count = max(group.floor, round(group.size * float(share)))
        count = count if stopped else min(count, self._most(group))
        count = max(group.floor, count // group.multiple_of * group.multiple_of)
        self._decided[group.name] = tuple(sorted(self.case.order[group.name][:count]))

    def _most(self, group: UnitGroup) -> int:
        """Return how many units may stay so that the groups still to come can meet the budget."""
        later = self.case.groups[len(self._decided) + 1 :]
        rest = {**self._decided, **{other.name: tuple(range(other.floor)) for other in later}}
        counts = range(group.floor, group.size + 1)
        within = bisect.bisect_right(
            counts,
            self.budget.keep + 1e-12,
            key=lambda count: self.case.meter({**rest, group.name: tuple(range(count))}),
        )
        return counts[max(0, within - 1)]

    def _decide_all(self, action: Action) -> bool:
        """Decide on all groups for this round; return whether it was the last."""
        decisions = torch.from_numpy(action).reshape(-1, len(DECISIONS))[: len(self._seen.groups)]
        scores = self._seen.scores(decisions, self._aim)
        keep = self.case.spend(scores, replace(self.budget, keep=self._aim))
        self._decided = {name: tuple(units) for name, units in keep.items()}
        if self._round == self.rounds:
            return True
        assert self.case.refresh is not None
        self._round += 1
        self._seen = self.case.described_by(self.case.refresh(self._decided))
        return False

    @property
    def _aim(self) -> float:
        """What may stay after this round: equal shares of what is left go in every round."""
        return float(self.budget.keep ** (self._round / self.rounds))

    def _spaces(self) -> dict[str, spaces.Space[Any]]:
        sizes, far = self.sizes, LARGEST
        boxes: dict[str, spaces.Space[Any]] = {
            "groups": spaces.Box(-far, far, (sizes.groups, len(GROUP_FEATURES)), np.float32),
            "edges": spaces.Box(0, sizes.groups, (2, sizes.edges), np.int64),
            "edge_features": spaces.Box(0, 1, (sizes.edges, len(EDGE_FEATURES)), np.float32),
            "globals": spaces.Box(-100, 100, (len(GLOBALS),), np.float32),
            "group_mask": spaces.MultiBinary(sizes.groups),
            "edge_mask": spaces.MultiBinary(sizes.edges),
            "kept": spaces.Box(0, 1, (sizes.groups,), np.float32),
            "current": spaces.MultiBinary(sizes.groups),
        }
        return boxes

    def _observation(self) -> Observation:
        seen, groups, keep = self._seen, self.case.groups, self._aim
        kept = [len(self._decided.get(group.name, range(group.size))) / group.size for group in groups]
        current = [self.mode == "all" or index == len(self._decided) for index in range(len(groups))]
        parts: dict[str, Any] = {
            "groups": seen.groups,
            "edges": seen.edges,
            "edge_features": seen.edge_features,
            "globals": [keep, math.log(keep), float(self.budget.uniform)],
            "group_mask": np.ones(len(groups)),
            "edge_mask": np.ones(seen.edges.shape[1]),
            "kept": kept,
            "current": current,
        }
        boxes: Any = self.observation_space
        return {name: _padded(part, boxes[name]) for name, part in parts.items()}


def _padded(part: Any, space: spaces.Space[Any]) -> NDArray[Any]:
    """Return `part` in the shape and type of its space, zeros beyond its own entries."""
    values = np.asarray(part)
    whole = np.zeros(space.shape or (), space.dtype)
    whole[tuple(slice(0, length) for length in values.shape)] = values
    return whole
