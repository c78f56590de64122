from __future__ import annotations

import json

import numpy as np
import pytest

from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.success_counts import Kernel, SuccessCounts
from prunepolicy.envs.thinking.terms import terms

GENERATOR = np.random.default_rng(0)
STATES = GENERATOR.random((600, 2))
SUCCEEDED = STATES[:, 0] > 0.5
PLACES = np.array([[0.1, 0.5], [0.5, 0.5], [0.9, 0.5], [0.9, 0.1]])


def counted(form: str, features: int = 1000, burn_in: int = 0) -> SuccessCounts:
    counts = SuccessCounts(Kernel(form=form, features=features, burn_in=burn_in))  # type: ignore[arg-type]
    counts.add(STATES, SUCCEEDED)
    return counts


def test_exact_counts_are_sums_of_kernels() -> None:
    counts = counted("exact")
    successes, failures = counts.counts(PLACES)
    kernels = np.exp(-np.square(PLACES[:, None] - STATES[None]).sum(-1) / (2 * 0.2**2))
    assert successes == pytest.approx(kernels[:, SUCCEEDED].sum(1))
    assert failures == pytest.approx(kernels[:, ~SUCCEEDED].sum(1))
    assert counts.mean(PLACES) == pytest.approx((successes + 1) / (successes + failures + 2))


def test_draws_have_the_mean_and_spread_of_their_beta_distribution() -> None:
    counts, place = counted("exact"), np.repeat(PLACES[:2], 5_000, axis=0)
    drawn = counts.draw(place, np.random.default_rng(1)).reshape(2, -1)
    (successes, failures), mean = counts.counts(PLACES[:2]), counts.mean(PLACES[:2])
    assert drawn.mean(1) == pytest.approx(mean, abs=0.005)
    assert drawn.var(1) == pytest.approx(mean * (1 - mean) / (successes + failures + 3), rel=0.1)


def test_random_features_approach_the_exact_counts() -> None:
    exact = np.array(counted("exact").counts(PLACES))
    found = [np.array(counted("random_features", size).counts(PLACES)) for size in (32, 4000)]
    errors = [np.abs(counts - exact).mean() for counts in found]
    assert errors[1] < 0.03 * exact.max()
    assert errors[1] < errors[0] / 3
    assert counted("random_features").mean(PLACES) == pytest.approx(counted("exact").mean(PLACES), abs=0.05)


@pytest.mark.parametrize("form", ["exact", "random_features"])
def test_counts_are_never_negative_and_vanish_during_burn_in(form: str) -> None:
    far = GENERATOR.normal(0, 10, (200, 2))
    assert min(map(np.min, counted(form).counts(far))) >= 0
    counts = counted(form, burn_in=10_000)
    assert np.array(counts.counts(PLACES)).max() == 0
    drawn = counts.draw(np.zeros((20_000, 2)), np.random.default_rng(0))
    assert np.quantile(drawn, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.02)


@pytest.mark.parametrize("form", ["exact", "random_features"])
def test_fading_scales_counts_and_state_reads_back(form: str) -> None:
    counts = counted(form, 64)
    before = np.array(counts.counts(PLACES))
    counts.fade(0.25)
    assert np.array(counts.counts(PLACES)) == pytest.approx(before / 4)
    again = SuccessCounts(counts.kernel)
    again.restore(json.loads(json.dumps(counts.state())))
    for each in (counts, again):
        each.add(PLACES, [True, False, True, True])
    np.testing.assert_array_equal(again.counts(PLACES), counts.counts(PLACES))


def test_forgotten_states_take_no_memory() -> None:
    counts = counted("exact")
    counts.fade(1e-4)
    assert counts.state()["successes"]["states"] == []
    assert np.array(counts.counts(PLACES)).max() == 0


def prompts(mode: int, right: float, difficulty: float) -> Rollouts:
    """A batch of 400 rollouts for 100 prompts of one difficulty."""
    correct = np.random.default_rng(mode).random(400) < right
    features = np.full((400, 1), difficulty)
    return Rollouts.of(np.arange(400) // 4, np.full(400, mode), correct, np.ones(400), features=features)


def test_the_term_pays_one_draw_per_prompt_and_mode_and_learns_which_mode_works() -> None:
    term = terms["success_rate"](weight=0.5)
    both = Rollouts.of([0] * 4 + [1] * 4, [0, 0, 1, 1] * 2, [True] * 8, [1] * 8, features=[[0.3]] * 8)
    noise = term.shape(both, np.zeros(8))
    assert len(set(noise)) == 4
    assert noise[0] == noise[1]
    assert np.abs(noise).max() <= 0.5
    for _ in range(5):
        term.observe(prompts(Mode.THINK, 0.9, 0.3))
        term.observe(prompts(Mode.ANSWER, 0.1, 0.3))
    learned = term.shape(both, np.zeros(8))
    assert learned[both.thinks] == pytest.approx(0.4, abs=0.05)
    assert learned[both.answers] == pytest.approx(-0.4, abs=0.05)
