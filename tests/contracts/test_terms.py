"""What every term of a reward for thinking must hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.terms import Term, terms

BATCH = 64


def batch(seed: int, count: int = BATCH, alone: bool = False) -> Rollouts:
    """Rollouts of all kinds, four to a prompt, or each of its own prompt."""
    generator = np.random.default_rng(seed)
    group = generator.permutation(np.arange(count) if alone else np.arange(count) // 4)
    readable = generator.random(count) < 0.9
    mode = generator.integers(len(Mode), size=count)
    return Rollouts.of(
        group,
        mode,
        readable & (mode != Mode.ABSTAIN) & (generator.random(count) < 0.6),
        generator.integers(0, 3000, count),
        well_formed=readable,
        degenerate=generator.random(count) < 0.2,
        budget=np.where(generator.random(count) < 0.5, 1000, np.inf),
        reference=generator.random(count),
        features=group[:, None] / count,
    )


def practised(name: str) -> Term:
    """A term that has seen a few batches."""
    term = terms[name]()
    for seed in range(30):
        term.observe(batch(seed))
    return term


@pytest.mark.parametrize("name", terms)
def test_rewards_are_finite_one_per_rollout_and_built_on_those_before(name: str) -> None:
    term, rollouts, before = practised(name), batch(100), np.random.default_rng(0).normal(size=BATCH)
    given = before.copy()
    after = term.shape(rollouts, before)
    assert after.shape == (BATCH,)
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(before, given)
    assert np.corrcoef(after - term.shape(rollouts, np.zeros(BATCH)), before)[0, 1] > 0.5


@pytest.mark.parametrize("name", terms)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    term, rollouts, before = practised(name), batch(100), np.random.default_rng(0).normal(size=BATCH)
    order = np.random.default_rng(1).permutation(BATCH)
    moved = term.shape(rollouts.where(order), before[order])
    np.testing.assert_allclose(moved, term.shape(rollouts, before)[order], rtol=1e-12)


@pytest.mark.parametrize("name", terms)
def test_a_correct_answer_is_never_worth_less_than_a_wrong_one_of_its_kind(name: str) -> None:
    term, rollouts = practised(name), batch(100, alone=True)
    could = rollouts.well_formed & ~rollouts.abstains
    rollouts = rollouts.where(could)
    columns = {key: getattr(rollouts, key) for key in rollouts.__dataclass_fields__}
    right, wrong = (
        Rollouts(**{**columns, "correct": np.full(len(rollouts), value)}) for value in (True, False)
    )
    zeros = np.zeros(len(rollouts))
    assert (term.shape(right, zeros) >= term.shape(wrong, zeros)).all()


@pytest.mark.parametrize("name", terms)
def test_shaping_remembers_nothing_and_memory_goes_through_json(name: str) -> None:
    term, rollouts, zeros = practised(name), batch(100), np.zeros(BATCH)
    saved = json.dumps(term.state())
    first = term.shape(rollouts, zeros)
    assert json.dumps(term.state()) == saved
    again = terms[name]()
    again.restore(json.loads(saved))
    for _ in range(2):
        np.testing.assert_array_equal(again.shape(rollouts, zeros), first)
        term.observe(rollouts)
        again.observe(rollouts)
        first = term.shape(rollouts, zeros)
    assert json.dumps(again.state()) == json.dumps(term.state())


@pytest.mark.parametrize("name", terms)
def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        terms[name](nothing_of_the_kind=1)
