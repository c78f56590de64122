"""Every registered environment: checkers, order of calls, pictures, what rewards are made of, travelling."""

from __future__ import annotations

import pickle
import re
from functools import partial
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.wrappers import RenderCollection
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.vec_env import SubprocVecEnv

from prunepolicy.envs import ENVIRONMENTS
from prunepolicy.envs.check import check_env
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

SENTENCE = re.compile(r"\w[^\n]*\.")
QUICKEST = "prunepolicy/ThinkSegments-v0"
every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)
spawned_environments = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == QUICKEST else pytest.mark.slow) for name in ENVIRONMENTS],
)


def episode(env: gymnasium.Env[Any, Any], seed: int | None = 0) -> list[tuple[Any, ...]]:
    """Play one episode with seeded actions; return all steps."""
    if seed is not None:
        env.reset(seed=seed)
        env.action_space.seed(seed)
    steps = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(env.action_space.sample()))
    return steps


def assert_equal(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> None:
    np.testing.assert_equal([step[:4] for step in first], [step[:4] for step in second])


@every_environment
# Rows of features are two-dimensional by nature; Stable-Baselines3 would have its own networks see them flat.
@pytest.mark.filterwarnings("ignore:Your observation .* has an unconventional shape")
def test_all_three_checkers_pass_without_a_warning(name: str) -> None:
    env = gymnasium.make(name).unwrapped
    gymnasium_check(env)
    sb3_check(env)
    check_env(lambda: gymnasium.make(name))


@every_environment
def test_it_is_found_by_its_module_and_says_what_it_can_do(name: str) -> None:
    env = gymnasium.make(f"prunepolicy.envs:{name}", render_mode="ansi")
    assert env.metadata["render_modes"] == ["rgb_array", "ansi"]
    assert env.metadata["render_fps"] > 0
    assert env.spec is not None
    assert env.spec.max_episode_steps in (None, 10_000)
    assert len(episode(env)) < 100


@every_environment
def test_steps_out_of_turn_are_one_sentence_and_an_episode_can_begin_again(name: str) -> None:
    env = gymnasium.make(name, render_mode="ansi")
    action = env.action_space.sample()
    for ask in (env.render, partial(env.step, action)):
        with pytest.raises(UsageError, match=r"No episode has begun; call reset\(\)"):
            ask()
    episode(env)
    for _ in range(2):
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"episode has ended; call reset\(\)"):
            env.step(action)
    assert_equal(episode(env), episode(env))


@every_environment
@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"render_mod": "ansi"}, r"unknown setting 'render_mod'"),
        ({"surely_not": 1}, r"unknown setting 'surely_not'"),
    ],
)
def test_unknown_settings_are_refused_at_once(name: str, settings: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what) as refused:
        gymnasium.make(name, **settings)
    assert SENTENCE.match(str(refused.value))


@every_environment
def test_unknown_render_modes_and_options_are_refused_with_the_nearest(name: str) -> None:
    make: Any = type(gymnasium.make(name).unwrapped)
    with pytest.raises(UsageError, match="Did you mean 'rgb_array'"):
        make(render_mode="rgb_aray")
    env = make()
    known = env.known_options[0]
    with pytest.raises(UsageError, match=f"Did you mean '{known}'"):
        env.reset(options={f"{known}s": 0})
    for index in (-1, 100_000, 0.5, "first"):
        with pytest.raises(UsageError, match=f"The option {known} is a number from 0"):
            env.reset(options={known: index})


@every_environment
def test_impossible_actions_are_one_sentence_and_cost_no_step(name: str) -> None:
    env = gymnasium.make(name).unwrapped
    env.reset(seed=0)
    space = env.action_space
    wrong: list[Any] = [
        np.zeros(3, np.float32),
        "up",
        2 if isinstance(space, gymnasium.spaces.Discrete) else None,
    ]
    if isinstance(space, gymnasium.spaces.Box):
        wrong.append(np.full(space.shape, np.nan, np.float32))
    for action in wrong:
        with pytest.raises(UsageError, match=r"^An action .*\.$"):
            env.step(action)
    assert_equal(episode(env, seed=None)[:0], [])


@every_environment
def test_infos_say_what_a_reward_was_made_of(name: str) -> None:
    paid = 0
    for seed in range(5):
        for _, reward, _, _, info in episode(gymnasium.make(name), seed):
            if "terms" not in info:
                assert reward == 0
                continue
            paid += 1
            assert sum(info["terms"].values()) == pytest.approx(reward)
            assert info["measured"]
            assert all(isinstance(value, int | float) for value in info["measured"].values())
    assert paid >= 5


@every_environment
def test_pictures_and_texts_show_the_episode(name: str) -> None:
    pictured, told = (gymnasium.make(name, render_mode=mode) for mode in ("rgb_array", "ansi"))
    collected = RenderCollection(pictured)
    episode(collected)
    first, *_, last = collected.render()
    assert first.shape == last.shape == (480, 720, 3)
    assert last.dtype == np.uint8
    assert (first != last).any()
    told.reset(seed=0)
    before: Any = told.render()
    steps = episode(told)
    after: Any = told.render()
    assert f"{steps[-1][1]:+.3g}" in after
    assert f"{steps[-1][1]:+.3g}" not in before
    assert before.isprintable() == ("\n" not in before)


@every_environment
def test_without_a_render_mode_it_warns_and_shows_nothing(name: str) -> None:
    env = gymnasium.make(name).unwrapped
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


@every_environment
@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_what_travels_goes_on_as_if_it_had_stayed(name: str, pickler: Any) -> None:
    env = gymnasium.make(name)
    episode(env, seed=3)
    there = pickler.loads(pickler.dumps(env))
    assert_equal(episode(there, seed=5), episode(env, seed=5))
    for each in (env, there):
        each.reset(seed=7)
        each.reset()
    there = pickler.loads(pickler.dumps(env))
    there.action_space.seed(1)
    env.action_space.seed(1)
    assert_equal(episode(there, seed=None), episode(env, seed=None))


@spawned_environments
def test_spawned_processes_play_the_same_episodes(name: str) -> None:
    single = gymnasium.make(name)
    first, _ = single.reset(seed=4)
    single.action_space.seed(0)
    action = single.action_space.sample()
    _, reward, *_ = single.step(action)
    vector = gymnasium.vector.AsyncVectorEnv(
        [partial(gymnasium.make, f"prunepolicy.envs:{name}")] * 2, context="spawn"
    )
    begun, _ = vector.reset(seed=[9, 4])
    _, rewards, *_ = vector.step(np.stack([action, action]))
    vector.close()
    np.testing.assert_equal(
        begun[1] if isinstance(begun, np.ndarray) else {k: v[1] for k, v in begun.items()}, first
    )
    assert rewards[1] == pytest.approx(reward)


@spawned_environments
def test_stable_baselines_plays_it_in_spawned_processes(name: str) -> None:
    single = gymnasium.make(name)
    single.reset(seed=4)
    single.action_space.seed(0)
    action = single.action_space.sample()
    _, reward, *_ = single.step(action)
    envs = SubprocVecEnv([partial(gymnasium.make, f"prunepolicy.envs:{name}")], start_method="spawn")
    envs.seed(4)
    envs.reset()
    _, rewards, *_ = envs.step(np.stack([action]))
    envs.close()
    assert rewards[0] == pytest.approx(reward, rel=1e-5)


def test_values_that_cannot_be_are_refused_with_what_can() -> None:
    for name, settings, what in (
        ("Prune", {"step": "layr"}, r"step can't be 'layr'.*Known: all, group"),
        ("Prune", {"step": "al"}, r"Did you mean 'all'"),
        ("Prune", {"shaping": "qualty"}, r"Unknown shaping 'qualty'\. Did you mean 'quality'"),
        ("Prune", {"shaping": "ks"}, r"doesn't measure 'dense_spectrum'"),
        ("Prune", {"keep": 0}, r"keep is a fraction"),
        ("Prune", {"keep": (0.9, 0.5)}, r"keep is a fraction"),
        ("Prune", {"keep": "half"}, r"keep is a fraction"),
        ("Prune", {"rounds": 0, "step": "all"}, r"rounds"),
        ("Prune", {"cases": []}, r"no case"),
        ("Prune", {"cases": [], "model": "x"}, r"not both"),
        ("PruneRows", {"shaping": "quality"}, r"doesn't measure 'reference_rise'"),
        ("PruneRows", {"discount": -1}, r"discount"),
        ("PruneRows", {"networks": [[]]}, r"no layer"),
        ("Think", {"actions": ("answer", "thnk")}, r"answer, think, abstain"),
        ("Think", {"stages": [{"name": "a", "terms": [{"name": "naiv"}]}]}, r"Did you mean 'naive'"),
        ("ThinkSegments", {"segments": 0}, r"segments"),
        ("ThinkSegments", {"segment": -5}, r"segment"),
    ):
        with pytest.raises(PrunePolicyError, match=what) as refused:
            gymnasium.make(f"prunepolicy/{name}-v0", **settings)
        assert SENTENCE.match(str(refused.value)), refused.value
