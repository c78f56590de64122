"""Pruning as an environment: an episode builds one plan for one network and one budget."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field, model_validator

from prunepolicy.envs.drawing import PlanDrawing, Strip
from prunepolicy.envs.episodes import EpisodeEnv, Taken, indexed
from prunepolicy.envs.named_model import NamedModel
from prunepolicy.envs.prune_case import PruneCase, invented_case
from prunepolicy.envs.settings import EnvSettings, KeepRange, as_range, checked
from prunepolicy.envs.shaping import Outcomes, ShapingName, shapings
from prunepolicy.metanet.group_network.graph import (
    DECISIONS,
    EDGE_FEATURES,
    GLOBALS,
    GROUP_FEATURES,
    LARGEST,
)
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGroup

Observation = dict[str, NDArray[Any]]
Action = NDArray[np.floating[Any]]
MEASURED = ("loss_rise", "reference_rise", "used", "budget")
"""Columns of outcomes that there are."""


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


class PruneEnvSettings(EnvSettings):
    """Settings of an environment of plans.

    Attributes:
        keep: range from which the budget's size is drawn, or the one size it has.
        shaping: name of the reward.
        step: `group` or `all`.
        may_stop: whether an episode may end before the budget is met.
        rounds: with `step="all"`, steps in which the budget is approached. Statistics are measured anew
            after each, and units that went may come back.
    """

    keep: KeepRange = (0.5, 0.95)
    shaping: ShapingName = "quality"
    step: Literal["group", "all"] = "group"
    may_stop: bool = False
    rounds: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.may_stop and (self.step == "all" or "used" not in shapings[self.shaping].reads):
            raise UsageError("may_stop needs step='group' and a shaping that reads what was used (ternary).")
        if self.rounds > 1 and self.step != "all":
            raise UsageError(f"rounds needs step='all'; got {self.rounds} rounds of step={self.step!r}.")
        return self


class PruneEnv(EpisodeEnv[Observation, Action]):
    """Says group by group, or for all units at once, what stays; the budget is always met.

    Network and budget are drawn at reset. The reward comes at the end of the episode.

    Observation:
        groups, edges, edge_features, globals: as in `GroupGraph`, padded with zeros.
        group_mask, edge_mask: 1 for what belongs to this network.
        kept: share of every group that stays as decided so far; current: 1 for groups to decide on.

    Action:
        group: the share of the current group that should stay, from -1 (nothing) to 1 (all). It is
            lowered where the groups still to come couldn't meet the budget any more; the Fisher ranking
            says which units. With `may_stop`, a positive second number leaves all further groups whole.
        all: for every group, one after the other, what `DECISIONS` names; what lies beyond
            the mask is ignored.

    Options of reset:
        network: which of the networks, a number from 0 on; keep: the budget's size.

    Args:
        cases: the networks; with neither these nor `model`, invented ones.
        model: a folder, hub id or alias; its statistics are collected now, in seconds to minutes.
        render_mode: see `EpisodeEnv`.
        settings: those of `PruneEnvSettings`.

    Raises:
        PrunePolicyError: for settings, budgets or models that can't work.
    """

    known_options: ClassVar[tuple[str, ...]] = ("network", "keep")

    def __init__(
        self,
        cases: Sequence[PruneCase] | None = None,
        *,
        model: str | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(render_mode)
        self.settings = checked(PruneEnvSettings, settings, "Prune")
        self.shaping = shapings[self.settings.shaping]
        self.cases = _cases(cases, model)
        self._check()
        self.sizes = Sizes.of(self.cases)
        self.observation_space: spaces.Space[Any] = spaces.Dict(self._spaces())
        together = self.settings.step == "all"
        length = self.sizes.groups * len(DECISIONS) if together else 1 + self.settings.may_stop
        self.action_space: spaces.Space[Any] = spaces.Box(-1, 1, (length,), np.float32)
        self._start(self.cases[0], self.settings.keep[1])

    def _check(self) -> None:
        self.shaping.check(MEASURED, "Prune")
        for case in self.cases:
            if self.settings.rounds > 1 and case.refresh is None:
                raise UsageError(f"{case.name} can't measure statistics again, so it knows no rounds.")
            if self.settings.step == "group" and case.budget.uniform:
                raise UsageError("Equal widths leave no ratios to choose; use step='all', or uniform=False.")
            case.refuse_below(self.settings.keep[0])

    def _start(self, case: PruneCase, keep: float) -> None:
        self.case, self.budget = case, replace(case.budget, keep=keep)
        self._decided: dict[str, tuple[int, ...]] = {}
        self._round, self._seen = 1, case.described

    def begin(self, options: Mapping[str, Any], anew: bool) -> tuple[Observation, dict[str, Any]]:
        """Draw a network and a budget."""
        drawn = int(self.np_random.integers(len(self.cases)))
        size = round(float(self.np_random.uniform(*self.settings.keep)), 2)  # whole percents come again
        case = self.cases[indexed(options, "network", drawn, len(self.cases))]
        keep, _ = as_range(options.get("keep", size))
        case.refuse_below(keep)
        self._start(case, keep)
        return self._observation(), {"network": self.case.name, "keep": self.budget.keep}

    def take(self, action: Action) -> Taken[Observation]:
        """Decide on one group, or on everything; the last decision is paid for."""
        action = np.asarray(action, np.float32)
        if self.settings.step == "all":
            done = self._decide_all(action)
        else:
            stopped = self.settings.may_stop and bool(action[1] > 0)
            self._decide(self._current(), float(action[0]), stopped)
            done = stopped or len(self._decided) == len(self.case.groups)
        if not done:
            return self._observation(), 0.0, False, {}
        outcomes = self.outcomes()
        reward = float(self.shaping(outcomes)[0])
        info = {
            "used": self.case.meter(self._decided),
            "network": self.case.name,
            "measured": outcomes.row(0),
            "terms": {self.shaping.name: reward},
        }
        return self._observation(), reward, True, info

    def plan(self) -> Plan:
        """Return the plan as decided so far; undecided groups stay whole."""
        keep = {n: units for n, units in self._decided.items() if len(units) < self.case.graph[n].size}
        return Plan(keep, self.budget, "environment")

    def outcomes(self) -> Outcomes:
        """Measure the plan as decided so far: the columns that the shaping reads."""
        return Outcomes({name: np.array([self._measures[name]()]) for name in self.shaping.reads})

    def drawing(self) -> PlanDrawing:
        """Return the plan as decided so far."""
        shares = self._kept()
        title = f"{self.case.name}, {self.budget.of}"
        strips = [Strip(name, share, name in self._decided) for name, share in shares.items()]
        return PlanDrawing(title, strips, self.case.meter(self._decided), self.budget.keep, self.reward)

    @property
    def _measures(self) -> dict[str, Callable[[], float]]:
        return {
            "loss_rise": lambda: self.case.rise(self._decided),
            "reference_rise": lambda: self.case.reference_rise(self.budget),
            "used": lambda: self.case.meter(self._decided),
            "budget": lambda: self.budget.keep,
        }

    def _kept(self) -> dict[str, float]:
        """Return the share of every group that stays as decided so far."""
        return {
            group.name: len(self._decided.get(group.name, range(group.size))) / group.size
            for group in self.case.groups
        }

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
        if self._round == self.settings.rounds:
            return True
        assert self.case.refresh is not None
        self._round += 1
        self._seen = self.case.described_by(self.case.refresh(self._decided))
        return False

    @property
    def _aim(self) -> float:
        """What may stay after this round: equal shares of what is left go in every round."""
        return float(self.budget.keep ** (self._round / self.settings.rounds))

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
        together = self.settings.step == "all"
        current = [together or index == len(self._decided) for index in range(len(groups))]
        parts: dict[str, Any] = {
            "groups": seen.groups,
            "edges": seen.edges,
            "edge_features": seen.edge_features,
            "globals": [keep, math.log(keep), float(self.budget.uniform)],
            "group_mask": np.ones(len(groups)),
            "edge_mask": np.ones(seen.edges.shape[1]),
            "kept": list(self._kept().values()),
            "current": current,
        }
        boxes: Any = self.observation_space
        return {name: _padded(part, boxes[name]) for name, part in parts.items()}


def _cases(cases: Sequence[PruneCase] | None, model: str | None) -> tuple[PruneCase, ...]:
    if model is not None and cases is not None:
        raise UsageError("Give cases, or a model to make one of; not both.")
    if model is not None:
        return (NamedModel(model).case(),)
    if cases is None:
        return invented_case(0), invented_case(1, widths=24, layers=2)
    if not cases:
        raise UsageError("There is no case to prune.")
    return tuple(cases)


def _padded(part: Any, space: spaces.Space[Any]) -> NDArray[Any]:
    """Return `part` in the shape and type of its space, zeros beyond its own entries."""
    values = np.asarray(part)
    whole = np.zeros(space.shape or (), space.dtype)
    whole[tuple(slice(0, length) for length in values.shape)] = values
    return whole
