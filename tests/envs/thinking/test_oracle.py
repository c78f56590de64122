from __future__ import annotations

import numpy as np
import pytest

from prunepolicy.envs.thinking.cached import CachedSource
from prunepolicy.envs.thinking.oracle import (
    adapt_think_skips,
    equilibrium,
    naive_skips,
    oracle,
    thinkless_skips,
    value_of,
    values,
)
from prunepolicy.envs.thinking.routers import always, at_random, hardest, never
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import ABSTAIN, ANSWER, THINK, ModeAndBudget, choices
from prunepolicy.envs.thinking.terms import terms

BOTH = (ANSWER, THINK)
SOURCE = SimulatedSource(prompts=300)
RULES = {"naive": naive_skips, "adapt_think": adapt_think_skips, "thinkless": thinkless_skips}


@pytest.mark.parametrize("name", RULES)
def test_oracles_of_rewards_are_their_published_thresholds(name: str) -> None:
    best = oracle(SOURCE, BOTH, terms[name]())
    skips = RULES[name](SOURCE.expected(THINK)[0], SOURCE.expected(ANSWER)[0])
    np.testing.assert_array_equal(best[:, 0] == 1, skips)
    assert 0.1 < skips.mean() < 0.9


def test_to_abstain_is_best_where_nothing_else_succeeds_often_enough() -> None:
    source = SimulatedSource(prompts=300)
    best = oracle(source, (ANSWER, ABSTAIN), terms["ternary"]())
    np.testing.assert_array_equal(best[:, 1] == 1, source.expected(ANSWER)[0] < 0.5)


def test_values_are_means_of_payments() -> None:
    taken, prompts = choices(("answer", "think", 500)), np.repeat(np.arange(4), 60_000)
    source = SimulatedSource(prompts=4)
    worth = values(source, taken, terms["thinkless"]())
    for action in range(3):
        met = ModeAndBudget.by(taken, np.full(len(prompts), action))
        paid = terms["thinkless"]().pay(source.rollouts(prompts, met, np.random.default_rng(0)))
        assert paid.reshape(4, -1).mean(1) == pytest.approx(worth[:, action], abs=0.02)


def test_nobody_beats_the_oracle_and_a_good_router_beats_chance_at_its_rate() -> None:
    naive = terms["naive"]()
    found = {}
    for name, think in {
        "always": always(SOURCE),
        "never": never(SOURCE),
        "random": at_random(SOURCE, 0.5),
        "hardest": hardest(SOURCE, 0.5),
    }.items():
        found[name] = value_of(SOURCE, BOTH, np.stack([1 - think, think], 1), naive)
    best = value_of(SOURCE, BOTH, oracle(SOURCE, BOTH, naive), naive)
    assert best.regret == pytest.approx(0)
    for value in found.values():
        assert value.regret == pytest.approx(best.reward - value.reward)
        assert value.regret > 0
    assert (found["always"].think, found["never"].think, found["hardest"].think) == (1, 0, pytest.approx(0.5))
    assert found["hardest"].accuracy > found["random"].accuracy + 0.05


def test_cached_outcomes_value_a_policy_without_bias_and_say_how_surely() -> None:
    taken, naive = BOTH, terms["naive"]()
    think = 0.2 + 0.6 * (SOURCE.difficulty > 0.6)
    chances = np.stack([1 - think, think], 1)
    truth = value_of(SOURCE, taken, chances, naive).reward
    estimates = []
    for seed in range(200):
        prompts = np.repeat(np.arange(300), 4)
        met = ModeAndBudget.by(taken, np.arange(1200) % 2)
        table = SOURCE.rollouts(prompts, met, np.random.default_rng(seed))
        estimates.append(value_of(CachedSource.of(table, SOURCE.difficulty[prompts]), taken, chances, naive))
    rewards = [estimate.reward for estimate in estimates]
    assert np.mean(rewards) == pytest.approx(truth, abs=3 * np.std(rewards) / 200**0.5)
    assert np.std(rewards) < estimates[0].standard_error < 3 * np.std(rewards)


def test_balance_settles_where_penalties_eat_the_gap() -> None:
    balance = terms["balance"]
    assert equilibrium(0.5, balance()) == pytest.approx(0.75)
    assert equilibrium(-0.3, balance(strength=1)) == pytest.approx(0.2)
    assert equilibrium(3.0, balance()) == pytest.approx(1)
    assert equilibrium(0.2, balance(gamma=0.8, reading="target")) == pytest.approx(0.9)
    z = equilibrium(0.3, balance(gamma=0.2))
    thinking, answering = balance(gamma=0.2).penalties(z, 1 - z)
    assert thinking - answering == pytest.approx(0.3)
