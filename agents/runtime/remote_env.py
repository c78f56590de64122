"""Episodes as jobs: the history of an environment, and the host in a worker that plays it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

Env = gymnasium.Env[Any, Any]


@dataclass(frozen=True)
class Episode:
    """All calls of an environment since its last reset, from which any worker makes it again.

    Attributes:
        place: number of the environment.
        seed: of this episode.
        options: of its reset.
        actions: so far.
    """

    place: int
    seed: int
    options: dict[str, Any] | None
    actions: tuple[Any, ...] = ()

    def after(self, action: Any) -> Episode:
        """Return the episode with one more action."""
        return replace(self, actions=(*self.actions, action))


@dataclass(frozen=True)
class StepResult:
    """What an environment answered: to a reset with an observation and infos, to a step with all of it.

    Attributes:
        first: the first observation of the next episode, and its infos, where this one has ended.
    """

    observation: Any
    info: dict[str, Any]
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    first: tuple[Any, dict[str, Any]] | None = None


@dataclass(frozen=True)
class StepRequest:
    """Bring an environment to the end of `episode`; where it is over, begin the one with `next_seed`."""

    episode: Episode
    next_seed: int


@dataclass(frozen=True)
class EnvQuery:
    """Ask an environment something at the end of `episode`."""

    episode: Episode
    ask: Callable[[Any], Any]


class RemoteEnvHost:
    """Plays episodes in the process of a worker.

    It keeps the environments of past calls, so that the next step costs one step, and a step that
    another worker began is played again from the reset.
    """

    def __init__(self, makers: Sequence[Callable[[], Env]]) -> None:
        self.makers = makers
        self.playing: dict[int, tuple[Env, Episode]] = {}

    def __call__(self, jobs: Sequence[StepRequest | EnvQuery]) -> list[Any]:
        """Return what the environments say, one after the other."""
        return [self._step(job) if isinstance(job, StepRequest) else self._answer(job) for job in jobs]

    def _step(self, job: StepRequest) -> StepResult:
        episode = job.episode
        if not episode.actions:
            return StepResult(*self._begin(episode))
        before = replace(episode, actions=episode.actions[:-1])
        env = self._brought_to(before)
        observation, reward, terminated, truncated, info = env.step(episode.actions[-1])
        self.playing[episode.place] = (env, episode)
        first = None
        if terminated or truncated:
            first = self._begin(Episode(episode.place, job.next_seed, None))
        return StepResult(observation, info, float(reward), terminated, truncated, first)

    def _answer(self, job: EnvQuery) -> Any:
        return job.ask(self._brought_to(job.episode))

    def _begin(self, episode: Episode) -> tuple[Any, dict[str, Any]]:
        if episode.place not in self.playing:
            self.playing[episode.place] = (self.makers[episode.place](), episode)
        env, _ = self.playing[episode.place]
        first: tuple[Any, dict[str, Any]] = env.reset(seed=episode.seed, options=episode.options)
        self.playing[episode.place] = (env, episode)
        return first

    def _brought_to(self, episode: Episode) -> Env:
        known = self.playing.get(episode.place)
        if known is None or not _same(known[1], episode):
            self._begin(replace(episode, actions=()))
            for action in episode.actions:
                self.playing[episode.place][0].step(action)
        env = self.playing[episode.place][0]
        self.playing[episode.place] = (env, episode)
        return env


def _same(first: Episode, second: Episode) -> bool:
    """Return whether two episodes are at the same point."""
    if (first.seed, first.options, len(first.actions)) != (second.seed, second.options, len(second.actions)):
        return False
    return all(np.array_equal(one, other) for one, other in zip(first.actions, second.actions, strict=True))
