from __future__ import annotations

import json

import numpy as np
import pytest

from prunepolicy.agents.thinking.bandit.learner import BanditConfig, ThinkBandit
from prunepolicy.agents.training.learner import LearnerState
from prunepolicy.envs.thinking.oracle import equilibrium, oracle, value_of, values
from prunepolicy.envs.thinking.schedule import Stage
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import ANSWER, THINK
from prunepolicy.envs.thinking.terms import terms

BOTH = (ANSWER, THINK)
SEEN, HIDDEN = SimulatedSource(), SimulatedSource(hidden=True)
BALANCED = Stage(name="balanced", terms=({"name": "naive"}, {"name": "balance"}))


@pytest.mark.parametrize("answers_at_first", [0.02, 0.27, 0.88])
def test_the_oracles_threshold_is_learned_from_any_start(answers_at_first: float) -> None:
    bandit = ThinkBandit(BanditConfig(initial_probability=answers_at_first), SEEN)
    before = bandit.probabilities()
    bandit.learn(300)
    best, learned = (terms["naive"](), bandit.probabilities())
    threshold = SEEN.difficulty[oracle(SEEN, BOTH, best)[:, 1] == 1].min()
    assert SEEN.difficulty[np.abs(learned[:, 1] - 0.5).argmin()] == pytest.approx(threshold, abs=0.04)
    regrets = [value_of(SEEN, BOTH, chances, best).regret for chances in (before, learned)]
    assert regrets[1] < 0.04 < regrets[0]


def last_shares(stage: Stage | None) -> float:
    config = BanditConfig(advantage="batch", learning_rate=0.05, **({"stages": (stage,)} if stage else {}))
    return float(np.mean([logged["think"] for logged in ThinkBandit(config, HIDDEN).learn(300)[-100:]]))


def test_who_cannot_tell_prompts_apart_collapses_unless_batches_are_balanced() -> None:
    worth = values(HIDDEN, BOTH, terms["naive"]()).mean(0)
    settles = equilibrium(worth[1] - worth[0], terms["balance"]())
    assert last_shares(None) > 0.99
    assert 0.7 < settles < 0.9
    assert last_shares(BALANCED) == pytest.approx(settles, abs=0.03)


def test_training_continues_from_json_bit_by_bit() -> None:
    config = BanditConfig(
        actions=("answer", "think", "abstain", 512),
        stages=({**BALANCED.model_dump(), "until": {"steps": 3}}, BALANCED.model_dump()),
        sampler={"name": "variance_aware"},
        prompts_per_step=16,
    )
    first, second = ThinkBandit(config, SEEN, seed=1), ThinkBandit(config, SEEN, seed=1)
    first.learn(4)
    second.restore(LearnerState(data=json.loads(json.dumps(first.state().data))))
    assert second.learn(4) == first.learn(4)
    np.testing.assert_array_equal(second.weights, first.weights)
