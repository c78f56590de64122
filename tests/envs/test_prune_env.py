"""Prune-v0: every checker, budgets that are always met, rewards that are what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from prunepolicy.envs.check import check_env
from prunepolicy.envs.prune_case import PruneCase, invented_case
from prunepolicy.envs.prune_env import PruneEnv
from prunepolicy.envs.shaping import shapings
from prunepolicy.metanet.group_network.graph import DECISIONS, KINDS
from prunepolicy.policy.kinds.graph import Graph
from prunepolicy.pruning.errors import BudgetError, UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.stats import Stats

ID = "prunepolicy/Prune-v0"
MODES = ["group", "all"]
READS = {"loss_rise", "reference_rise", "used", "budget"}


@pytest.mark.filterwarnings("ignore:Your observation .* has an unconventional shape")
def test_all_three_checkers_pass_where_everything_is_decided_at_once() -> None:
    env = gymnasium.make(ID, step="all").unwrapped
    gymnasium_check(env)
    sb3_check(env)
    check_env(lambda: gymnasium.make(ID, step="all"))


@pytest.mark.parametrize("name", [name for name in shapings if set(shapings[name].reads) <= READS])
def test_every_shaping_that_reads_plans_can_be_chosen(name: str) -> None:
    env = PruneEnv(shaping=name)
    _, reward = played(env, seed=1)
    assert np.isfinite(reward)


def test_vectorised_environments_play_the_same_episodes() -> None:
    vector, single = gymnasium.make_vec(ID, num_envs=2), gymnasium.make(ID)
    vector.reset(seed=[5, 6])
    single.reset(seed=6)
    actions = vector.action_space.sample()
    for _ in range(2):
        (seen, rewards, *_), (alone, reward, *_) = vector.step(actions), single.step(actions[1])
        assert rewards[1] == pytest.approx(reward)
        assert all(np.array_equal(seen[key][1], alone[key]) for key in alone)


def played(env: PruneEnv, seed: int, action: Any = None) -> tuple[int, float]:
    """Play one episode; return its length and its reward."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for length in range(1, 100):
        _, reward, done, _, _ = env.step(env.action_space.sample() if action is None else action)
        if done:
            return length, float(reward)
        assert reward == 0
    raise AssertionError("it doesn't end")


@pytest.mark.parametrize("step", MODES)
@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_the_budget_is_met(step: Any, seed: int) -> None:
    env = PruneEnv(step=step)
    for action in (None, np.ones(env.action_space.shape, np.float32)):
        length, _ = played(env, seed, action)
        assert length == (len(env.case.groups) if step == "group" else 1)
        plan = env.plan()
        plan.check(env.case.graph)
        assert env.case.meter(plan.keep) <= env.budget.keep + 1e-9
    # Keeping all that the budget lets one keep leaves less than one unit of it unspent.
    assert env.case.meter(plan.keep) > env.budget.keep - 1.01 / sum(g.size for g in env.case.groups)


def test_the_reward_compares_with_the_fisher_ranking() -> None:
    env = PruneEnv(step="all")
    env.reset(seed=0, options={"keep": 0.7, "network": 0})
    case = env.case
    reference = case.rise(case.spend(case.fisher, env.budget))
    _, reward, *_ = env.step(env.action_space.sample())
    assert reward == pytest.approx(-np.log(case.surrogate.rise(env.plan().keep) / reference), rel=1e-5)


def test_no_correction_is_what_the_untrained_policy_plans() -> None:
    env = PruneEnv(step="all")
    env.reset(seed=0, options={"keep": 0.75, "network": 0})
    env.step(np.zeros(env.action_space.shape, np.float32))
    planned = Graph().plan(env.case.graph, env.case.stats, replace(env.budget, multiple_of=1))
    assert env.plan().keep == planned.keep


def test_stopping_early_earns_nothing_and_ruin_costs() -> None:
    env = PruneEnv(shaping="ternary", may_stop=True)
    env.reset(seed=0, options={"keep": 0.6})
    _, reward, done, _, info = env.step(np.array([0.0, 1.0], np.float32))
    assert done
    assert (reward, info["used"]) == (0.0, 1.0)
    _, reward = played(env, 0, np.array([-1.0, -1.0], np.float32))
    assert reward == -1


def test_ternary_pays_for_meeting_both() -> None:
    env = PruneEnv([measured(lambda keep: 0.0)], shaping="ternary")
    assert played(env, 0)[1] == 1


def measured(measure: Any, budget: Budget | None = None) -> PruneCase:
    case = invented_case()
    return PruneCase(case.name, case.graph, case.stats, budget or case.budget, measure)


def test_a_measured_loss_replaces_the_prediction() -> None:
    seen = []

    def measure(keep: Any) -> float:
        seen.append(dict(keep))
        return 1.0 + len(seen)

    env = PruneEnv([measured(measure)])
    _, reward = played(env, 0)
    assert env.plan().keep in seen
    assert reward == pytest.approx(-np.log(2 / 3))


@pytest.mark.parametrize("step", MODES)
def test_smaller_networks_are_padded_with_zeros(step: Any) -> None:
    env = PruneEnv(step=step)
    large, _ = env.reset(seed=0, options={"network": 0})
    small, _ = env.reset(seed=0, options={"network": 1})
    groups = int(small["group_mask"].sum())
    assert groups == 2 < large["group_mask"].sum() == 3
    assert not small["groups"][groups:].any()
    assert not small["kept"][groups:].any()
    assert not small["edge_features"][small["edge_mask"] == 0].any()


def test_the_observation_says_what_was_decided() -> None:
    env = PruneEnv()
    first, _ = env.reset(seed=0, options={"network": 0, "keep": 0.9})
    assert first["current"].tolist() == [1, 0, 0]
    second, *_ = env.step(np.array([0.0], np.float32))
    assert second["current"].tolist() == [0, 1, 0]
    assert second["kept"][:2].tolist() == [0.5, 1.0]
    assert second["groups"][:, : len(KINDS)].sum() == 3


def test_what_cannot_work_is_refused() -> None:
    uniform, params = Budget(0.8, "ffn"), Budget(0.8, "params", uniform=False)
    with pytest.raises(UsageError, match="fractions"):
        PruneEnv(keep=(0.0, 0.5))
    with pytest.raises(UsageError, match="no ratios to choose"):
        PruneEnv([measured(None, uniform)])
    with pytest.raises(UsageError, match="may_stop"):
        PruneEnv(may_stop=True)
    with pytest.raises(UsageError, match="rounds"):
        PruneEnv(rounds=2)
    with pytest.raises(UsageError, match="measure statistics again"):
        PruneEnv(step="all", rounds=2)
    with pytest.raises(BudgetError, match="can't get below"):
        PruneEnv([measured(None, params)], keep=(0.05, 0.5))


def test_equal_widths_are_chosen_in_one_step() -> None:
    env = PruneEnv([measured(None, Budget(0.8, "ffn"))], step="all")
    played(env, 3)
    assert env.plan().is_uniform(env.case.graph)


def rounds_of(case: PruneCase, rounds: int, refresh: Any) -> PruneEnv:
    return PruneEnv([replace(case, refresh=refresh)], step="all", rounds=rounds)


def test_rounds_approach_the_budget_and_see_the_network_anew() -> None:
    seen, case = [], invented_case()

    def refresh(keep: Any) -> Any:
        seen.append(case.meter(keep))
        return invented_case(len(seen)).stats

    env = rounds_of(case, 3, refresh)
    first, _ = env.reset(seed=0, options={"keep": 0.512})
    nothing, done, rewards = np.zeros(env.action_space.shape, np.float32), False, []
    while not done:
        observation, reward, done, *_ = env.step(nothing)
        rewards.append(reward)
    assert seen == pytest.approx([0.8, 0.64], abs=0.02)
    assert rewards[:2] == [0, 0]
    assert len(rewards) == 3
    assert not np.array_equal(first["groups"], observation["groups"])
    assert case.meter(env.plan().keep) <= 0.512


def test_units_that_went_may_come_back() -> None:
    """Statistics that turn around after the first round bring back what it removed."""
    case = invented_case()
    turned = {
        name: {group: values.flip(-1) for group, values in groups.items()}
        for name, groups in case.stats.values.items()
    }
    env = rounds_of(case, 2, lambda keep: Stats(turned))
    env.reset(seed=0, options={"keep": 0.5})
    nothing = np.zeros(env.action_space.shape, np.float32)
    env.step(nothing)
    before = {name: set(units) for name, units in env.plan().keep.items()}
    env.step(nothing)
    assert any(set(units) - before[name] for name, units in env.plan().keep.items() if name in before)


def test_following_what_tells_good_units_apart_is_worth_more() -> None:
    """The reward tells whether a decision follows the gradients or goes against them."""
    env, rewards = PruneEnv([invented_case()], step="all"), []
    for sign in (1.0, -1.0):
        env.reset(seed=0, options={"keep": 0.5})
        decisions = np.zeros((len(env.case.groups), len(DECISIONS)), np.float32)
        decisions[:, DECISIONS.index("fisher: z-score")] = sign
        rewards.append(env.step(decisions.ravel())[1])
    assert rewards[0] > rewards[1]
