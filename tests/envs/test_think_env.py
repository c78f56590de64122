from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import prunepolicy.envs  # noqa: F401 (registers the environments)
from prunepolicy.envs.check import check_env
from prunepolicy.envs.think_env import ThinkEnv
from prunepolicy.envs.think_segments_env import ThinkSegmentsEnv
from prunepolicy.envs.think_vector_env import ThinkVectorEnv
from prunepolicy.envs.thinking.cached import CachedSource
from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.schedule import Schedule
from prunepolicy.envs.thinking.simulated import Calibration, SimulatedSource
from prunepolicy.envs.thinking.source import ABSTAIN, ANSWER, THINK, Choice, ModeAndBudget
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

ID = "prunepolicy/Think-v0"
ACTIONS = ("answer", "think", "abstain", 256, 1024)
STAGES = [
    {"name": "balance", "terms": [{"name": "naive"}, {"name": "balance"}], "until": {"steps": 2}},
    {"name": "length", "terms": [{"name": "naive"}, {"name": "length_aware"}]},
]


def test_the_whole_batch_is_drawn_once_for_all_and_travels() -> None:
    envs = gymnasium.make_vec(ID, num_envs=16, render_mode="rgb_array")
    with pytest.raises(UsageError, match="No episode has begun"):
        envs.step(np.ones(16, np.int64))
    envs.reset(seed=0)
    with pytest.raises(UsageError, match="Actions are an element"):
        envs.step(np.full(16, 7))
    *_, info = envs.step(np.ones(16, np.int64))
    np.testing.assert_array_equal(sum(info["terms"].values()), info["shaped"].rewards)
    pictures = envs.render()
    assert len(pictures) == 16
    assert pictures[0].shape == (480, 720, 3)
    there = pickle.loads(pickle.dumps(envs))
    np.testing.assert_array_equal(there.step(np.ones(16, np.int64))[1], envs.step(np.ones(16, np.int64))[1])
    with pytest.raises(UsageError, match="Did you mean 'sampler'"):
        gymnasium.make_vec(ID, num_envs=16, sampeler={"name": "random"})


def test_a_thought_moves_the_running_share_of_segments() -> None:
    env = ThinkSegmentsEnv(segments=1)
    first, _ = env.reset(seed=0)
    env.step(np.int64(1))
    second, _ = env.reset()
    assert first[1] == 0.5 < second[1]


def test_a_seed_starts_everything_anew_and_other_resets_go_on() -> None:
    env = ThinkEnv(
        stages=[{"name": "a", "terms": [{"name": "naive"}, {"name": "balance", "share": "running"}]}]
    )
    first, _ = env.reset(seed=3)
    for _ in range(5):
        env.step(np.int64(1))
        observation, _ = env.reset()
    assert observation[-1] > first[-1] == 0.5
    np.testing.assert_array_equal(env.reset(seed=3)[0], first)


def test_an_episode_pays_what_its_outcome_is_worth() -> None:
    env, seen = ThinkEnv(actions=ACTIONS), set()
    for seed in range(60):
        env.reset(seed=seed)
        action = seed % len(ACTIONS)
        _, reward, ended, _, info = env.step(np.int64(action))
        assert ended
        assert reward == {0: 2 if info["correct"] else -1, 2: 0}.get(action, float(info["correct"]))
        assert info["length"] <= {2: 1, 3: 256, 4: 1024}.get(action, 10_000)
        seen.add((action, info["correct"]))
    assert len(seen) == 9  # whoever abstains is never right


def test_batches_are_shaped_whole_and_prompts_shared() -> None:
    env = gymnasium.make_vec(ID, num_envs=64, rollouts_per_prompt=8, stages=STAGES, actions=ACTIONS)
    assert isinstance(env, ThinkVectorEnv)
    observed, info = env.reset(seed=0)
    again, generator = Schedule(STAGES), np.random.default_rng(0)
    for _ in range(4):
        assert env.observation_space.contains(observed)
        assert (observed.reshape(8, 8, -1) == observed.reshape(8, 8, -1)[:, :1]).all()
        before = observed
        observed, rewards, ended, cut, info = env.step(generator.integers(len(ACTIONS), size=64))
        np.testing.assert_array_equal(info["final_obs"][:, :-1], before[:, :-1])
        np.testing.assert_array_equal(again.step(info["rollouts"]).rewards, rewards)
        assert ended.all()
        assert not cut.any()
        np.testing.assert_array_equal(np.unique(info["rollouts"].group, return_counts=True)[1], [8] * 8)
    assert env.task.schedule.stage.name == "length"


def test_a_vector_continues_from_json_as_if_it_had_not_stopped() -> None:
    sampler = {"name": "variance_aware", "refresh": 1}
    envs = [ThinkVectorEnv(32, stages=STAGES, rollouts_per_prompt=4, sampler=sampler) for _ in range(2)]
    first, second = envs
    first.reset(seed=5)
    for _ in range(3):
        first.step(np.arange(32) % 2)
    second.reset(seed=9)
    second.restore(json.loads(json.dumps(first.state())))
    for _ in range(3):
        one, other = first.step(np.arange(32) % 2), second.step(np.arange(32) % 2)
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(
    "choice", [ANSWER, THINK, ABSTAIN, Choice(Mode.THINK, 600.0)], ids=["answer", "think", "abstain", "600"]
)
def test_drawn_outcomes_have_the_expected_accuracy_and_tokens(choice: Choice) -> None:
    source = SimulatedSource(prompts=3)
    prompts = np.repeat(np.arange(3), 20_000)
    met = ModeAndBudget.by((choice,), np.zeros(60_000, np.int64))
    rollouts = source.rollouts(prompts, met, np.random.default_rng(0))
    accuracy, tokens = source.expected(choice)
    assert rollouts.correct.reshape(3, -1).mean(1) == pytest.approx(accuracy, abs=0.01)
    assert rollouts.length.reshape(3, -1).mean(1) == pytest.approx(tokens, rel=0.01)


def drawn(source: SimulatedSource | CachedSource, each: int, seed: int = 0) -> tuple[Rollouts, np.ndarray]:
    """Outcomes of both modes for every prompt, and the difficulty of each row."""
    prompts = np.repeat(np.arange(len(source)), 2 * each)
    met = ModeAndBudget.by((ANSWER, THINK), np.arange(len(prompts)) % 2)
    return source.rollouts(prompts, met, np.random.default_rng(seed)), source.difficulty[prompts]


def test_a_calibration_is_found_again_in_its_own_rollouts() -> None:
    source = SimulatedSource(prompts=400)
    found = Calibration.of(*drawn(source, 100), bins=12)
    for column, tolerance in (("accuracy", 0.03), ("spread", 0.1)):
        for mode in ("think", "answer"):
            name = f"{mode}_{column}"
            inner = found.difficulty[1:-1]
            expected = source.calibration.at(name, inner)
            assert getattr(found, name)[1:-1] == pytest.approx(expected, abs=tolerance)
    tokens = source.calibration.at("think_tokens", found.difficulty)
    assert found.think_tokens == pytest.approx(tokens, rel=0.05)
    with pytest.raises(PrunePolicyError, match="roll out both"):
        Calibration.of(Rollouts.of([0, 1], [1, 1], [True, True], [5, 5]), [0.1, 0.9], bins=2)


def test_cached_rollouts_play_what_they_hold_and_come_back_from_their_file(tmp_path: Path) -> None:
    table, difficulty = drawn(SimulatedSource(prompts=50), 6)
    order = np.random.default_rng(0).permutation(len(table))
    cached = CachedSource.of(table.where(order), difficulty[order])
    cached.save(tmp_path / "rollouts.safetensors")
    cached = CachedSource.load(tmp_path / "rollouts.safetensors")
    for mode, name in ((Mode.THINK, "think"), (Mode.ANSWER, "answer")):
        for prompt in (0, 49):
            rows = (table.group == prompt) & (table.mode == mode)
            assert sorted(getattr(cached, f"{name}_length")[prompt]) == sorted(table.length[rows])
    many, _ = drawn(cached, 2000)
    for choice, rows in ((THINK, many.thinks), (ANSWER, many.answers)):
        accuracy, tokens = cached.expected(choice)
        part = many.where(rows)
        assert part.correct.reshape(50, -1).mean(1) == pytest.approx(accuracy, abs=0.05)
        assert part.length.reshape(50, -1).mean(1) == pytest.approx(tokens, rel=0.05)
    limited = cached.expected(Choice(Mode.THINK, 500.0))
    assert limited[0] == pytest.approx((cached.think_correct & (cached.think_length <= 500)).mean(1))
    check_env(lambda: ThinkEnv(cached))


def test_files_that_hold_no_rollouts_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    with pytest.raises(PrunePolicyError, match="Can't read"):
        CachedSource.load(file)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(PrunePolicyError, match="Can't read"):
        CachedSource.load(file)
    table, difficulty = drawn(SimulatedSource(prompts=4), 2)
    rows = table.answers | (table.group > 0)
    with pytest.raises(PrunePolicyError, match="equally many rollouts of the mode think"):
        CachedSource.of(table.where(rows), difficulty[rows])
    cached = CachedSource.of(table, difficulty)
    for change, what in (
        ({"think_correct": cached.think_length}, "think_correct.*true or false"),
        ({"think_length": cached.think_length * np.nan}, "think_length.*finite"),
        ({"answer_length": -cached.answer_length}, "at least 0"),
        ({"features": cached.features[:2]}, "features of 4"),
    ):
        with pytest.raises(PrunePolicyError, match=what):
            replace(cached, **change)


def test_segments_trade_tokens_for_accuracy() -> None:
    env, outcomes = ThinkSegmentsEnv(segments=10, segment=300), []
    for stop_after in (0, 2, 10):
        played = []
        for seed in range(300):
            env.reset(seed=seed, options={"prompt": 7})
            for done in range(11):
                *_, ended, _, info = env.step(np.int64(done < stop_after))
                if ended:
                    break
            played.append((info["correct"], info["length"]))
        outcomes.append(np.mean(played, axis=0))
    accuracy, tokens = np.array(outcomes).T
    ends = [env.task.source.expected(choice)[0][7] for choice in (ANSWER, THINK)]
    assert accuracy[[0, 2]] == pytest.approx(ends, abs=0.08)
    assert accuracy[0] < accuracy[1] < accuracy[2]
    assert tokens[0] < tokens[1] < tokens[2]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"actions": ("answer",)}, "fewer than two"),
        ({"actions": ("answer", "ponder")}, "answer, think, abstain"),
        ({"actions": ("answer", -5)}, "positive"),
    ],
)
def test_impossible_actions_are_refused(arguments: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        ThinkEnv(**arguments)
    with pytest.raises(UsageError, match="can't share"):
        ThinkVectorEnv(10, rollouts_per_prompt=4)
