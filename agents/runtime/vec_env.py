"""A vector environment of Stable-Baselines3 whose environments live where a runner works: in Ray actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from prunepolicy.agents.runtime.remote_env import (
    Env,
    EnvQuery,
    Episode,
    RemoteEnvHost,
    StepRequest,
    StepResult,
)
from prunepolicy.agents.runtime.runner import Runner

CHUNKS = 4
"""Jobs per worker and step: enough that those with cheap episodes help the others out."""


class RunnerVecEnv(VecEnv):
    """Environments in the workers of `runner`; with a RayRunner, in its actors.

    The seed of every episode comes from that of the environment and the episode's number, so that equal
    actions bring equal outcomes however many workers there are, and when some of them die. What
    `env_method` changes lasts until the worker is replaced, or another one takes the environment over.

    Args:
        makers: one function per environment; they travel to the workers together, once.
        seed: from which the environments' own are derived unless `seed` sets others.
    """

    def __init__(self, makers: Sequence[Callable[[], Env]], runner: Runner, seed: int = 0) -> None:
        self.runner, self._specimen = runner, makers[0]()
        self._stage = runner.share(RemoteEnvHost(makers))
        self._roots = [[seed, place] for place in range(len(makers))]
        self._numbers = [0] * len(makers)
        self._episodes = [self._next(place, None) for place in range(len(makers))]
        self.num_envs = len(makers)  # The base class asks for attributes before it knows.
        super().__init__(len(makers), self._specimen.observation_space, self._specimen.action_space)

    def reset(self) -> VecEnvObs:
        """Begin an episode everywhere."""
        for place, seed in enumerate(self._seeds):
            if seed is not None:
                self._roots[place], self._numbers[place] = [seed], 0
            self._episodes[place] = self._next(place, self._options[place] or None)
        self._reset_seeds()
        self._reset_options()
        results = self._ask([self._step(episode) for episode in self._episodes])
        self.reset_infos = [one.info for one in results]
        return self._stacked([one.observation for one in results])

    def step_async(self, actions: NDArray[Any]) -> None:
        """Note the actions; `step_wait` has them carried out."""
        pairs = zip(self._episodes, actions, strict=True)
        self._episodes = [episode.after(action) for episode, action in pairs]

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step everywhere, and begin anew where an episode has ended."""
        results: list[StepResult] = self._ask([self._step(episode) for episode in self._episodes])
        seen = [self._settled(place, one) for place, one in enumerate(results)]
        rewards = np.array([one.reward for one in results], np.float32)
        dones = np.array([one.first is not None for one in results])
        infos = [one.info for one in results]
        return self._stacked(seen), rewards, dones, infos

    def _settled(self, place: int, result: StepResult) -> Any:
        """Return what the environment shows now: the next episode's first observation after the last step."""
        result.info["TimeLimit.truncated"] = result.truncated and not result.terminated
        if result.first is None:
            return result.observation
        self._episodes[place] = self._next(place, None)
        result.info["terminal_observation"] = result.observation
        observation, self.reset_infos[place] = result.first
        return observation

    def close(self) -> None:
        """Free the environments; the workers are the runner's."""
        self._specimen.close()
        self._stage = self.runner.share(RemoteEnvHost(()))

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of every environment as it is now."""
        return self._ask_at(indices, partial(_attribute, attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: it would be lost with a worker; give it to the makers."""
        raise NotImplementedError(f"Set {attr_name} where environments are made: workers may be replaced.")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of every environment."""
        return self._ask_at(indices, partial(_called, method_name, args, kwargs))

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether the environments are wrapped in `wrapper_class`; they are all alike."""
        layer: Any = self._specimen
        while isinstance(layer, gymnasium.Wrapper) and not isinstance(layer, wrapper_class):
            layer = layer.env
        return [isinstance(layer, wrapper_class)] * len(list(self._get_indices(indices)))

    def _next(self, place: int, options: dict[str, Any] | None) -> Episode:
        """Return the next episode of an environment, and count it."""
        self._numbers[place] += 1
        return Episode(place, self._seed_of(place, self._numbers[place]), options)

    def _seed_of(self, place: int, number: int) -> int:
        return int(np.random.SeedSequence([*self._roots[place], number]).generate_state(1)[0])

    def _step(self, episode: Episode) -> StepRequest:
        return StepRequest(episode, self._seed_of(episode.place, self._numbers[episode.place] + 1))

    def _ask_at(self, indices: VecEnvIndices, ask: Callable[[Any], Any]) -> list[Any]:
        return self._ask([EnvQuery(self._episodes[place], ask) for place in self._get_indices(indices)])

    def _ask(self, jobs: Sequence[StepRequest | EnvQuery]) -> list[Any]:
        size = max(1, len(jobs) // (CHUNKS * self.runner.workers))
        chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        return [result for chunk in self.runner.map(self._stage, chunks, size) for result in chunk]

    def _stacked(self, observations: Sequence[Any]) -> VecEnvObs:
        if isinstance(self.observation_space, spaces.Dict):
            return {
                name: np.stack([one[name] for one in observations]) for name in self.observation_space.spaces
            }
        return np.stack(observations)


def _attribute(name: str, env: Env) -> Any:
    return env.get_wrapper_attr(name)


def _called(name: str, arguments: tuple[Any, ...], settings: dict[str, Any], env: Env) -> Any:
    return env.get_wrapper_attr(name)(*arguments, **settings)
