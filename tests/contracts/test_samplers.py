"""What every way to draw prompts must hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from prunepolicy.envs.thinking.sampling import Sampler, samplers

PROMPTS = 40


def taught(name: str, seed: int = 0, batches: int = 60) -> Sampler:
    """A sampler that has seen answers; low numbers are solved more often."""
    sampler, luck = samplers[name](prompts=PROMPTS, seed=seed), np.random.default_rng(7)
    for _ in range(batches):
        prompts = sampler.sample(16)
        sampler.observe(prompts, luck.random(16) > prompts / PROMPTS, np.full(16, 0.5))
    return sampler


@pytest.mark.parametrize("name", samplers)
def test_draws_are_prompts_as_many_as_were_asked_for(name: str) -> None:
    sampler = taught(name)
    for count in (1, 16, 100):
        drawn = sampler.sample(count)
        assert drawn.shape == (count,)
        assert drawn.dtype == np.int64
        assert 0 <= drawn.min() <= drawn.max() < PROMPTS


@pytest.mark.parametrize("name", samplers)
def test_seeds_decide_draws_and_batches_differ(name: str) -> None:
    first, same, other = taught(name), taught(name), taught(name, seed=1)
    drawn = first.sample(50)
    np.testing.assert_array_equal(drawn, same.sample(50))
    assert not np.array_equal(drawn, other.sample(50))
    assert not np.array_equal(drawn, first.sample(50))


@pytest.mark.parametrize("name", samplers)
def test_a_restored_sampler_draws_what_the_saved_one_would_have_drawn(name: str) -> None:
    first, second = taught(name), samplers[name](prompts=PROMPTS)
    second.restore(json.loads(json.dumps(first.state())))
    for _ in range(40):
        drawn = first.sample(16)
        np.testing.assert_array_equal(second.sample(16), drawn)
        for each in (first, second):
            each.observe(drawn, drawn % 3 == 0)
    assert json.dumps(first.state()) == json.dumps(second.state())


@pytest.mark.parametrize("name", samplers)
def test_in_the_long_run_no_prompt_is_left_out(name: str) -> None:
    sampler = samplers[name](prompts=PROMPTS)
    seen: set[int] = set()
    for _ in range(300):
        drawn = sampler.sample(16)
        sampler.observe(drawn, np.ones(16, bool))
        seen.update(drawn.tolist())
    assert len(seen) == PROMPTS


@pytest.mark.parametrize("name", samplers)
def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        samplers[name](prompts=PROMPTS, nothing_of_the_kind=1)
