"""Pruning for a text as an environment: a few tokens are shown, and other tokens of their kind pay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from prunepolicy.envs.drawing import PlanDrawing, Strip
from prunepolicy.envs.episodes import EpisodeEnv, Taken, indexed
from prunepolicy.envs.named_model import NamedModel
from prunepolicy.envs.named_texts import NamedTexts
from prunepolicy.envs.settings import EnvSettings, checked
from prunepolicy.envs.text_case import GROUP_FEATURES, LARGEST, TextCase, invented_text_case
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan

Observation = dict[str, NDArray[Any]]
Action = NDArray[np.floating[Any]]
PER_GROUP = 2
"""Numbers of an action per group: how much of it stays, and how far the shown tokens are believed."""
TRUST = 16.0
"""Factor between the believed and the real number of shown tokens for an action of 1."""
CONTEXT = ("log tokens", "price")


class PruneForTextSettings(EnvSettings):
    """What an environment of texts may be told.

    Attributes:
        price: nats per token that a share of 1 of the channels costs.
        equal: one share and one trust for the whole network, whose layers then have equal widths.
    """

    price: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    equal: bool = False


class PruneForTextEnv(EpisodeEnv[Observation, Action]):
    """One decision: which channels stay for a text of which a few tokens were shown.

    Network, kind of text and number of tokens are drawn at reset. The reward is what the network as decided
    loses on other tokens of the same kind, and what stays at its price, both negative.

    Observation:
        groups: `text_case.GROUP_FEATURES` per feed-forward block, zeros beyond the network's own.
        group_mask: 1 for the network's own blocks.
        context: natural logarithm of the number of shown tokens, and the price.

    Action:
        For every block, one after the other (with `equal` for all at once): the share that stays, from -1
        (its floor) to 1 (all); and how far the shown tokens are believed against the generic statistic, from
        -1 to 1, where 0 blends by their number. What lies beyond the mask is ignored.

    Options of reset:
        domain: which kind of text of the network, a number from 0 on; network: which of the networks;
        shown: which of its numbers of tokens, a number from 0 on.

    Args:
        cases: the networks and their kinds of text; with neither these nor `model`, invented ones.
        model: a folder, hub id or alias; it writes the texts and reads them, in seconds to minutes.
        render_mode: see `EpisodeEnv`.
        settings: those of `PruneForTextSettings`.

    Raises:
        PrunePolicyError: for settings or models that can't work.
    """

    known_options: ClassVar[tuple[str, ...]] = ("domain", "network", "shown")

    def __init__(
        self,
        cases: Sequence[TextCase] | None = None,
        *,
        model: str | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(render_mode)
        self.settings = checked(PruneForTextSettings, settings, "PruneForText")
        self.cases = _cases(cases, model)
        self.most_groups = max(len(case.groups) for case in self.cases)
        shape = (self.most_groups, len(GROUP_FEATURES))
        boxes: dict[str, spaces.Space[Any]] = {
            "groups": spaces.Box(-LARGEST, LARGEST, shape, np.float32),
            "group_mask": spaces.MultiBinary(self.most_groups),
            "context": spaces.Box(0, 100, (len(CONTEXT),), np.float32),
        }
        self.observation_space: spaces.Space[Any] = spaces.Dict(boxes)
        decisions = 1 if self.settings.equal else self.most_groups
        self.action_space: spaces.Space[Any] = spaces.Box(-1, 1, (decisions * PER_GROUP,), np.float32)
        self._start(self.cases[0], 0, 0)

    def _start(self, case: TextCase, domain: int, shown: int) -> None:
        self.case, self.domain = case, domain
        self.few = case.domains[domain].shown[shown]
        self._kept: dict[str, tuple[int, ...]] = {}

    def begin(self, options: Mapping[str, Any], anew: bool) -> tuple[Observation, dict[str, Any]]:
        """Draw a network, a kind of text, and how many of its tokens are shown."""
        case = self.cases[self._drawn(options, "network", len(self.cases))]
        domain = self._drawn(options, "domain", len(case.domains))
        self._start(case, domain, self._drawn(options, "shown", len(case.domains[domain].shown)))
        info = {"network": case.name, "domain": case.domains[domain].name, "tokens": self.few.tokens}
        return self._observation(), info

    def _drawn(self, options: Mapping[str, Any], name: str, count: int) -> int:
        return indexed(options, name, int(self.np_random.integers(count)), count)

    def take(self, action: Action) -> Taken[Observation]:
        """Keep what the action says, and pay for it."""
        shares, trusts = self._decisions(np.clip(np.asarray(action, np.float64), -1, 1))
        keep = self.case.choice(self.few, shares, trusts)
        self._kept = {name: tuple(units) for name, units in keep.items()}
        divergence, used = self.case.divergence(self.domain, self._kept), self._used
        terms = {"divergence": -divergence, "cost": -self.settings.price * used}
        info = {
            "network": self.case.name,
            "domain": self.case.domains[self.domain].name,
            "measured": {"divergence": divergence, "used": used},
            "terms": terms,
        }
        return self._observation(), sum(terms.values()), True, info

    def _decisions(self, action: NDArray[np.float64]) -> tuple[list[float], list[float]]:
        """Return the share that stays of every group, and how much more its shown tokens count."""
        count = len(self.case.groups)
        rows = action.reshape(-1, PER_GROUP)
        rows = np.repeat(rows, count, axis=0) if self.settings.equal else rows[:count]
        return ((rows[:, 0] + 1) / 2).tolist(), (TRUST ** rows[:, 1]).tolist()

    def plan(self) -> Plan:
        """Return the plan as decided; before that, everything stays."""
        keep = {n: units for n, units in self._kept.items() if len(units) < self.case.graph[n].size}
        return Plan(keep, Budget(1.0, "ffn", uniform=self.settings.equal), "environment")

    def drawing(self) -> PlanDrawing:
        """Return what stays of every block."""
        strips = [
            Strip(
                group.name, len(self._kept.get(group.name, range(group.size))) / group.size, bool(self._kept)
            )
            for group in self.case.groups
        ]
        kind = self.case.domains[self.domain].name
        title = f"{self.case.name}, {kind}, {self.few.tokens} tokens shown"
        return PlanDrawing(title, strips, self._used, 1.0, self.reward)

    @property
    def _used(self) -> float:
        """The share of all channels that stays."""
        sizes = sum(group.size for group in self.case.groups)
        return sum(len(self._kept.get(g.name, range(g.size))) for g in self.case.groups) / sizes

    def _observation(self) -> Observation:
        count = len(self.case.groups)
        groups = np.zeros((self.most_groups, len(GROUP_FEATURES)), np.float32)
        groups[:count] = self.case.features(self.few).numpy()
        mask = np.zeros(self.most_groups, np.int8)
        mask[:count] = 1
        context = np.array([math.log(self.few.tokens), self.settings.price], np.float32)
        return {"groups": groups, "group_mask": mask, "context": context}


def _cases(cases: Sequence[TextCase] | None, model: str | None) -> tuple[TextCase, ...]:
    if model is not None and cases is not None:
        raise UsageError("Give cases, or a model to make one of; not both.")
    if model is not None:
        return (NamedTexts(NamedModel(model)).case(),)
    if cases is None:
        return invented_text_case(0), invented_text_case(1, widths=24, layers=2)
    if not cases:
        raise UsageError("There is no network whose channels could follow a text.")
    return tuple(cases)
