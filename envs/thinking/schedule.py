"""Rewards in stages: which terms are paid now, and when the next stage begins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunepolicy.envs.thinking.groups import mixed_share, zero_variance_share
from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts
from prunepolicy.envs.thinking.settings import built
from prunepolicy.envs.thinking.terms import Term, terms
from prunepolicy.pruning.errors import PrunePolicyError, UsageError


class Until(BaseModel):
    """When a stage ends: after `steps`, or earlier once every criterion that is given holds.

    Attributes:
        steps: batches after which the stage ends in any case; None for never.
        least_steps: batches for which it lasts in any case.
        mixed_at_least: share of groups with several modes.
        share_near: share of thinking to be near to, within `tolerance`, for `patience` batches in a row.
        plateau: batches without an accuracy better than before by more than `tolerance`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int | None = Field(default=None, ge=1)
    least_steps: int = Field(default=1, ge=1)
    mixed_at_least: float | None = Field(default=None, ge=0, le=1)
    share_near: float | None = Field(default=None, ge=0, le=1)
    tolerance: float = Field(default=0.05, gt=0)
    patience: int = Field(default=1, ge=1)
    plateau: int | None = Field(default=None, ge=1)


class Stage(BaseModel):
    """Terms that are paid together, one after the other.

    Attributes:
        name: what logs call it.
        terms: every term's `name` and its settings.
        until: when the next stage begins; the last stage doesn't end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    terms: tuple[dict[str, Any], ...] = Field(min_length=1)
    until: Until = Until()


NAIVE = Stage(name="naive", terms=({"name": "naive"},))
"""AutoThink's naive reward alone."""


@dataclass(frozen=True)
class ShapedBatch:
    """A batch with its rewards.

    Attributes:
        rewards: one per rollout.
        components: what every term changed, by the term's name; they sum to the rewards.
        statistics: of the batch, for logs: think, mixed, zero_variance, accuracy, tokens, unfinished.
    """

    rewards: Rewards
    components: Mapping[str, Rewards]
    statistics: Mapping[str, float]


class Progress(BaseModel):
    """Where a schedule is; JSON both ways, bit by bit."""

    model_config = ConfigDict(extra="forbid")

    stage: int = 0
    steps: int = 0
    near: int = 0
    best: float = -1.0
    stale: int = 0


class Schedule:
    """Shapes batches of rollouts and moves from stage to stage.

    Terms with equal settings in several stages are one term, with one memory. Rewards for evaluation are
    never shaped: use `correct`.

    Args:
        stages: in their order.

    Raises:
        UsageError: for an unknown term or setting, or no stage at all.
    """

    def __init__(self, stages: Sequence[Stage | Mapping[str, Any]]) -> None:
        self.stages = tuple(checked_stage(stage) for stage in stages)
        if not self.stages:
            raise UsageError("A schedule needs at least one stage.")
        self._terms: dict[str, Term] = {
            _key(settings): built(terms, settings) for stage in self.stages for settings in stage.terms
        }
        self._progress = Progress()

    @property
    def stage(self) -> Stage:
        """The stage whose terms are paid now."""
        return self.stages[self._progress.stage]

    def shape(self, rollouts: Rollouts) -> ShapedBatch:
        """Return the rewards of a whole batch; nothing is remembered.

        Raises:
            PrunePolicyError: for an empty batch, or a reward that isn't finite.
        """
        if not len(rollouts):
            raise PrunePolicyError("There is no rollout to shape.")
        rewards: Rewards = np.zeros(len(rollouts))
        components: dict[str, Rewards] = {}
        for settings in self.stage.terms:
            name, before = str(settings["name"]), rewards
            rewards = self._terms[_key(settings)].shape(rollouts, before)
            if rewards.shape != before.shape or not np.isfinite(rewards).all():
                raise PrunePolicyError(f"The term {name} must give one finite number per rollout.")
            components[name] = components.get(name, 0.0) + (rewards - before)
        return ShapedBatch(rewards, components, batch_statistics(rollouts, rewards))

    def step(self, rollouts: Rollouts) -> ShapedBatch:
        """Return the rewards of a training batch, remember it, and move on where the stage has ended."""
        shaped = self.shape(rollouts)
        for settings in self.stage.terms:
            self._terms[_key(settings)].observe(rollouts)
        self._advance(shaped.statistics)
        return shaped

    def state(self) -> dict[str, Any]:
        """Return place and memories as JSON can hold them."""
        return {
            "progress": self._progress.model_dump(),
            "terms": {key: term.state() for key, term in self._terms.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned, for the same stages.

        Raises:
            PrunePolicyError: when the state belongs to other stages.
        """
        if set(state["terms"]) != set(self._terms):
            raise PrunePolicyError("This state belongs to a schedule with other terms.")
        self._progress = Progress.model_validate(state["progress"])
        for key, term in self._terms.items():
            term.restore(state["terms"][key])

    def _advance(self, statistics: Mapping[str, float]) -> None:
        now, until = self._progress, self.stage.until
        now.steps += 1
        if until.share_near is not None:
            near = abs(statistics["think"] - until.share_near) < until.tolerance
            now.near = now.near + 1 if near else 0
        better = statistics["accuracy"] > now.best + until.tolerance
        now.stale = 0 if better else now.stale + 1
        now.best = max(now.best, statistics["accuracy"]) if better else now.best
        if _ended(now, until, statistics) and now.stage + 1 < len(self.stages):
            self._progress = Progress(stage=now.stage + 1)


def _ended(now: Progress, until: Until, statistics: Mapping[str, float]) -> bool:
    if until.steps is not None and now.steps >= until.steps:
        return True
    criteria = []
    if until.mixed_at_least is not None:
        criteria.append(statistics["mixed"] >= until.mixed_at_least)
    if until.share_near is not None:
        criteria.append(now.near >= until.patience)
    if until.plateau is not None:
        criteria.append(now.stale >= until.plateau)
    return bool(criteria) and all(criteria) and now.steps >= until.least_steps


def batch_statistics(rollouts: Rollouts, rewards: Rewards) -> dict[str, float]:
    """Return what is logged of a batch; `unfinished` is a share of the thoughts, others are of all."""
    return {
        "reward": float(rewards.mean()),
        "think": float(rollouts.thinks.mean()),
        "mixed": mixed_share(rollouts),
        "zero_variance": zero_variance_share(rewards, rollouts.group),
        "accuracy": float(rollouts.correct.mean()),
        "tokens": float(rollouts.length.mean()),
        "unfinished": float(rollouts.unfinished.sum() / max(1, rollouts.thinks.sum())),
    }


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def checked_stage(stage: Stage | Mapping[str, Any]) -> Stage:
    """Return a stage, or raise `UsageError` where settings make none."""
    try:
        return stage if isinstance(stage, Stage) else Stage.model_validate(stage)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"stage: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
