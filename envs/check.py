"""Our environment checker: what learning relies on beyond gymnasium's own checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from prunepolicy.envs import LONGEST
from prunepolicy.pruning.errors import PrunePolicyError

Transcript = list[tuple[Any, float]]


def check_env(make: Callable[[], gymnasium.Env[Any, Any]], seed: int = 0) -> None:
    """Play a few episodes and raise `PrunePolicyError` at the first promise that is broken.

    Promised are: episodes that end; rewards that are finite; observations inside their space;
    equal episodes for equal seeds, in one environment or two; other episodes for another seed;
    and a mask, where there is one, outside which observations are zero.
    """
    first, second = make(), make()
    transcript = _play(first, seed)
    for again, where in ((_play(first, seed), "the same environment"), (_play(second, seed), "another one")):
        if not _equal(transcript, again):
            raise PrunePolicyError(
                f"The same seed gives another episode in {where}; draw from np_random only."
            )
    if _equal(transcript, _play(first, seed + 1)):
        raise PrunePolicyError("Two seeds give the same episode; sample the network or the budget at reset.")


def _play(env: gymnasium.Env[Any, Any], seed: int) -> Transcript:
    """Return observations and rewards of one episode with seeded random actions."""
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    transcript: Transcript = [(_checked(env, observation), 0.0)]
    for _ in range(LONGEST):
        observation, paid, terminated, truncated, _ = env.step(env.action_space.sample())
        reward = float(paid)
        if not math.isfinite(reward):
            raise PrunePolicyError(f"A reward is {reward}; rewards must be finite.")
        transcript.append((_checked(env, observation), reward))
        if terminated or truncated:
            return transcript
    raise PrunePolicyError(f"An episode hasn't ended after {LONGEST} steps.")


def _checked(env: gymnasium.Env[Any, Any], observation: Any) -> Any:
    if not env.observation_space.contains(observation):
        raise PrunePolicyError("An observation lies outside the observation space (shape, type or bounds).")
    if isinstance(observation, dict) and {"rows", "mask"} <= observation.keys():
        beyond = observation["rows"][observation["mask"] == 0]
        if beyond.any():
            raise PrunePolicyError("Rows outside the mask aren't zero, so that they tell of other networks.")
    return observation


def _equal(first: Transcript, second: Transcript) -> bool:
    if len(first) != len(second):
        return False
    return all(a[1] == b[1] and _same(a[0], b[0]) for a, b in zip(first, second, strict=True))


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    return bool(np.array_equal(first, second))
