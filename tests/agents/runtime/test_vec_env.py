"""Environments that live elsewhere: the same trajectories, whoever plays them and however often anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor

from prunepolicy.agents.runtime import LocalRunner
from prunepolicy.agents.runtime.remote_env import RemoteEnvHost
from prunepolicy.agents.runtime.vec_env import RunnerVecEnv
from prunepolicy.envs.prune_case import invented_case
from prunepolicy.envs.prune_env import PruneEnv

CASES = (invented_case(0), invented_case(1, widths=24, layers=2))
MAKE = partial(PruneEnv, CASES, keep=(0.5, 0.9))


class Forgetful(LocalRunner):
    """Gives every job to a worker that has never seen an environment."""

    workers = 3

    def map(self, work: Any, jobs: Iterable[Any], size: float = 1) -> Iterator[Any]:
        for job in jobs:
            yield RemoteEnvHost(work.value.makers)(job)


def played(runner: LocalRunner, seed: int = 0) -> list[Any]:
    """Return everything that five environments say in nine steps, in which episodes end."""
    envs = VecMonitor(RunnerVecEnv([MAKE] * 5, runner, seed))
    generator = np.random.default_rng(0)
    said: list[Any] = [envs.reset()]
    for _ in range(9):
        actions = generator.uniform(-1, 1, (5, 1)).astype(np.float32)
        observations, rewards, dones, infos = envs.step(actions)
        ends = [info["episode"]["r"] for info in infos if "episode" in info]
        last = [info["terminal_observation"]["kept"] for info in infos if "terminal_observation" in info]
        said.append((observations, rewards, dones, ends, last))
    assert any(dones.any() for _, _, dones, _, _ in said[1:])
    return said


def test_a_step_that_another_worker_began_is_played_again_from_the_reset() -> None:
    np.testing.assert_equal(played(Forgetful()), played(LocalRunner()))
    with pytest.raises(AssertionError):
        np.testing.assert_equal(played(LocalRunner(), seed=1), played(LocalRunner()))


def test_trajectories_are_those_of_the_environment_itself() -> None:
    envs, env = RunnerVecEnv([MAKE] * 2, LocalRunner()), MAKE()
    envs.seed(7)
    envs.set_options({"network": 1, "keep": 0.6})
    first = envs.reset()
    alone, _ = env.reset(seed=0, options={"network": 1, "keep": 0.6})
    for number in range(len(CASES[1].groups)):
        for name, part in alone.items():
            np.testing.assert_array_equal(first[name][1], part)
        action = np.array([0.1 * number], np.float32)
        first, rewards, dones, infos = envs.step(np.stack([action, action]))
        alone, reward, done, _, info = env.step(action)
        assert rewards[1] == np.float32(reward)
    assert done
    assert dones.all()
    assert infos[1]["used"] == info["used"]
    assert not infos[1]["TimeLimit.truncated"]
    np.testing.assert_array_equal(infos[1]["terminal_observation"]["kept"], alone["kept"])
    assert first["kept"].max() == 1  # the next episode has begun


def test_environments_answer_questions_wherever_they_are() -> None:
    envs = RunnerVecEnv([MAKE, MAKE, MAKE], Forgetful())
    envs.seed(0)
    before = envs.reset()["globals"]
    envs.step(np.full((3, 1), 0.5, np.float32))
    budgets = envs.get_attr("budget", [2, 0])
    assert [budget.keep for budget in budgets] == pytest.approx([before[2][0], before[0][0]])
    assert [len(plan.keep) for plan in envs.env_method("plan")] == [
        1
    ] * 3  # one group decided, the rest whole
    assert envs.env_is_wrapped(gymnasium.Wrapper) == [False] * 3
    with pytest.raises(NotImplementedError, match="workers may be replaced"):
        envs.set_attr("keep", (0.1, 0.2))
    envs.seed(0)
    np.testing.assert_array_equal(envs.reset()["globals"], before)
    envs.close()


def cart_pole() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1")


@pytest.mark.parametrize("make", [LocalRunner, Forgetful])
def test_algorithms_of_stable_baselines_learn_on_it(make: Callable[[], LocalRunner]) -> None:
    check_env(cart_pole())
    envs = RunnerVecEnv([cart_pole] * 4, make())
    learner = PPO("MlpPolicy", VecMonitor(envs), n_steps=32, batch_size=64, n_epochs=1, seed=3, device="cpu")
    learner.learn(256)
    assert learner.num_timesteps == 256
    lengths = [episode["l"] for episode in learner.ep_info_buffer or ()]
    assert len(lengths) > 3
    assert sum(lengths) <= 256
