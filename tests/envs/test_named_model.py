"""Environments that are made from a model's name."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

import prunepolicy.envs  # noqa: F401 (registers the environments)
from prunepolicy.envs.check import check_env
from prunepolicy.envs.prune_env import PruneEnv
from prunepolicy.envs.shaping import shapings
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

Make = Callable[..., Checkpoint]
PRUNE, ROWS = "prunepolicy/Prune-v0", "prunepolicy/PruneRows-v0"


@pytest.fixture
def model(tiny_checkpoint: Make) -> str:
    return str(tiny_checkpoint("llama", num_hidden_layers=2).folder)


def finished(env: gymnasium.Env[Any, Any], keep: float) -> dict[str, Any]:
    env.reset(seed=0, options={"keep": keep})
    env.action_space.seed(0)
    done = False
    while not done:
        *_, done, _, info = env.step(env.action_space.sample())
    return info


@pytest.mark.parametrize("name", [PRUNE, ROWS])
def test_a_name_makes_an_environment_without_a_word(
    name: str, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    env = gymnasium.make(name, model=model, keep=0.7)
    assert capfd.readouterr() == ("", "")
    _, info = env.reset(seed=0)
    assert info["keep"] == 0.7
    assert "terms" in finished(env, 0.7)
    check_env(lambda: gymnasium.make(name, model=model, keep=(0.5, 0.9)))


def test_the_environment_plans_for_the_networks_own_groups(model: str) -> None:
    env = PruneEnv(model=model, keep=0.7)
    finished(env, 0.7)
    graph = Checkpoint.open(resolve(model)).graph
    plan = env.plan()
    plan.check(graph)
    assert set(plan.keep) <= {group.name for group in graph.of_kind("ffn")}


def test_rounds_measure_anew_and_travel_by_name(model: str) -> None:
    env = PruneEnv(model=model, keep=0.5, step="all", rounds=2)
    packed = pickle.dumps(env)
    assert len(packed) < 1_000_000
    there = pickle.loads(packed)
    action, seen = np.zeros(env.action_space.shape, np.float32), []
    for each in (env, there):
        first, _ = each.reset(seed=0)
        second, *_ = each.step(action)
        assert not np.array_equal(first["groups"], second["groups"])
        seen.append(second["groups"])
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize(
    "shaping", [name for name in shapings if "reference_rise" not in shapings[name].reads]
)
def test_rows_are_prepared_for_what_their_shaping_reads(shaping: str, model: str) -> None:
    if "used" in shapings[shaping].reads:
        with pytest.raises(UsageError, match="doesn't measure 'used'"):
            gymnasium.make(ROWS, model=model, shaping=shaping)
        return
    info = finished(gymnasium.make(ROWS, model=model, shaping=shaping), 0.6)
    assert set(info["measured"]) == set(shapings[shaping].reads)


@pytest.mark.parametrize("name", [PRUNE, ROWS])
def test_names_of_nothing_get_the_sentence_of_the_command_line(name: str) -> None:
    with pytest.raises(PrunePolicyError) as said:
        resolve("models/no/such/thing")
    with pytest.raises(PrunePolicyError) as refused:
        gymnasium.make(name, model="models/no/such/thing")
    assert str(refused.value) == str(said.value)


def test_networks_without_feed_forward_blocks_have_no_rows(tiny_checkpoint: Make) -> None:
    folder = str(tiny_checkpoint("cifar_resnet").folder)
    with pytest.raises(UsageError, match="no FFN blocks"):
        gymnasium.make(ROWS, model=folder)
    assert "terms" in finished(gymnasium.make(PRUNE, model=folder, keep=0.6), 0.6)
