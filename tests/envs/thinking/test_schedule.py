from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from prunepolicy.envs.thinking.rollouts import Rollouts
from prunepolicy.envs.thinking.schedule import Schedule
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

NAIVE = {"name": "naive"}
BALANCE = {"name": "balance"}
LENGTH = {"name": "length_aware"}
RATES = {"name": "success_rate", "kernel": {"burn_in": 10, "features": 16}}


def batch(thinking: float = 0.5, right: float = 0.5, seed: int = 0, each: int = 4) -> Rollouts:
    generator = np.random.default_rng(seed)
    mode = (np.arange(64) < 64 * thinking).astype(int)
    correct = np.arange(64) % 8 < 8 * right
    group = np.arange(64) % 16 if each == 4 else np.arange(64)
    features = group[:, None] / 16
    return Rollouts.of(group, mode, correct, generator.integers(1, 100, 64), features=features)


def schedule(*untils: dict[str, Any]) -> Schedule:
    stages = [{"name": str(i), "terms": [NAIVE], "until": until} for i, until in enumerate(untils)]
    return Schedule([*stages, {"name": "last", "terms": [NAIVE, LENGTH]}])


def stages_seen(made: Schedule, batches: list[Rollouts]) -> list[str]:
    seen = []
    for rollouts in batches:
        seen.append(made.stage.name)
        made.step(rollouts)
    return seen


def test_components_sum_to_the_rewards_in_the_order_of_the_terms() -> None:
    made = Schedule([{"name": "one", "terms": [NAIVE, LENGTH, BALANCE]}])
    shaped = made.shape(batch(0.75))
    assert list(shaped.components) == ["naive", "length_aware", "balance"]
    np.testing.assert_allclose(sum(shaped.components.values()), shaped.rewards)
    assert shaped.components["balance"][batch(0.75).answers].max() == pytest.approx(0)
    statistics = shaped.statistics
    assert (statistics["think"], statistics["accuracy"]) == (0.75, 0.5)
    assert (statistics["mixed"], statistics["zero_variance"]) == (1.0, 0.0)


def test_stages_follow_each_other_by_steps_and_the_last_stays() -> None:
    made = schedule({"steps": 2}, {"steps": 1})
    assert stages_seen(made, [batch()] * 5) == ["0", "0", "1", "last", "last"]


def test_a_share_has_to_stay_near_for_some_batches() -> None:
    made = schedule({"share_near": 0.5, "tolerance": 0.1, "patience": 2})
    shares = (0.75, 0.5, 0.75, 0.5, 0.5625, 0.5)
    assert stages_seen(made, [batch(share) for share in shares]) == ["0"] * 5 + ["last"]


def test_all_criteria_that_are_given_have_to_hold() -> None:
    made = schedule({"mixed_at_least": 0.5, "plateau": 2, "least_steps": 3, "steps": 9})
    single = [batch(each=1)] * 4
    assert stages_seen(made, [*single, batch(), batch()]) == ["0"] * 5 + ["last"]
    rising = schedule({"plateau": 2, "tolerance": 0.05})
    rights = (0.25, 0.5, 0.75, 0.75, 0.75, 0.75)
    assert stages_seen(rising, [batch(right=right) for right in rights]) == ["0"] * 5 + ["last"]


def test_a_schedule_continues_from_json_as_if_it_had_not_stopped() -> None:
    stages = [
        {"name": "a", "terms": [NAIVE, RATES, {**BALANCE, "share": "running"}], "until": {"steps": 3}},
        {"name": "b", "terms": [NAIVE, RATES]},
    ]
    made = Schedule(stages)
    for seed in range(2):
        made.step(batch(seed=seed))
    again = Schedule(stages)
    again.restore(json.loads(json.dumps(made.state())))
    for seed in range(2, 6):
        rewards = [each.step(batch(seed=seed)).rewards for each in (made, again)]
        np.testing.assert_array_equal(*rewards)
        assert again.stage == made.stage
    assert json.dumps(again.state()) == json.dumps(made.state())
    assert made.stage.name == "b"
    assert made.state()["terms"][json.dumps(RATES, sort_keys=True)]["batches"] == 6


def test_wrong_stages_and_states_are_named() -> None:
    with pytest.raises(UsageError, match=r"Unknown term 'naiv'.*'naive'"):
        Schedule([{"name": "a", "terms": [{"name": "naiv"}]}])
    with pytest.raises(UsageError, match=r"balance: unknown setting 'gama'.*'gamma'"):
        Schedule([{"name": "a", "terms": [{"name": "balance", "gama": 1}]}])
    with pytest.raises(UsageError, match=r"balance: gamma: .*less than or equal"):
        Schedule([{"name": "a", "terms": [{"name": "balance", "gamma": 7}]}])
    with pytest.raises(UsageError, match="stage: until"):
        Schedule([{"name": "a", "terms": [NAIVE], "until": {"stps": 1}}])
    with pytest.raises(UsageError, match="at least one stage"):
        Schedule([])
    with pytest.raises(PrunePolicyError, match="other terms"):
        schedule().restore(Schedule([{"name": "a", "terms": [BALANCE]}]).state())
    with pytest.raises(PrunePolicyError, match="no rollout"):
        schedule().shape(batch().where([]))
