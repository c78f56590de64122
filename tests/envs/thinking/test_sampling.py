from __future__ import annotations

import numpy as np
import pytest

from prunepolicy.envs.thinking.diversity import diversity
from prunepolicy.envs.thinking.sampling import samplers


def test_prompts_whose_outcomes_vary_are_drawn_more_often() -> None:
    sampler = samplers["variance_aware"](prompts=3, refresh=1, mixed=0.5, memory=1)
    sampler.observe(np.repeat([0, 1, 2], 4), np.array([0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1], bool))
    assert sampler.promise() == pytest.approx([1e-6, 0.8 * 0.25, 1e-6])
    drawn = sampler.sample(1000)
    assert (drawn[:500] == 1).mean() > 0.99
    assert (drawn[500:] == 1).mean() == pytest.approx(1 / 3, abs=0.07)


def test_diversity_weighs_beside_outcomes_and_what_is_unknown_counts_as_half_solved() -> None:
    sampler = samplers["variance_aware"](prompts=3)
    sampler.observe(np.array([0, 1]), np.array([True, True]), np.array([0.0, 0.75]))
    assert sampler.promise() == pytest.approx([1e-6, 0.2 * 0.75, 0.8 * 0.25])


def test_weights_are_renewed_at_their_time_alone() -> None:
    sampler = samplers["variance_aware"](prompts=2, refresh=3, mixed=1.0)
    sampler.observe(np.array([0] * 8 + [1] * 2), np.array([True] * 8 + [True, False]))
    shares = [(sampler.sample(400) == 1).mean() for _ in range(3)]
    assert shares[:2] == pytest.approx([0.5, 0.5], abs=0.1)
    assert shares[2] > 0.99


def test_a_curriculum_opens_harder_prompts_with_success_only() -> None:
    difficulty = tuple(np.linspace(1, 0, 100))  # the last prompts are the easy ones
    for right, most in ((True, 1.0), (False, 0.25)):
        sampler = samplers["curriculum"](prompts=100, difficulty=difficulty)
        for _ in range(120):
            drawn = sampler.sample(32)
            sampler.observe(drawn, np.full(32, right))
        assert np.array(difficulty)[sampler.sample(2000)].max() == pytest.approx(most, abs=0.02)


def test_random_draws_repeat_nothing_while_prompts_last() -> None:
    drawn = samplers["random"](prompts=10).sample(25)
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))


def test_diversity_is_one_minus_the_overlap_of_phrases() -> None:
    assert diversity(["a b c d", "a b c d"]) == pytest.approx(0)
    assert diversity(["a b c d", "e f g h"]) == 1
    near, far = diversity(["a b c d", "a b c e"]), diversity(["a b c d", "d a c b"])
    assert 0 < near < far
    # 3/4 of words, 2/3 of pairs, 1/2 of triples are shared.
    assert near == pytest.approx(1 - (3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3))
    assert diversity(["alone"]) == 0
    assert diversity(["", "a"]) == 1
