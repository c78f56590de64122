from __future__ import annotations

from itertools import permutations

import pytest
import torch

from prunepolicy.policy.row_sampling import concrete, draw_by_weight, plackett_luce, plackett_luce_log_prob

SCORES = torch.tensor([0.5, -1.0, 2.0, 0.0])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_probabilities_of_all_ordered_draws_sum_to_one(count: int) -> None:
    draws = torch.tensor(list(permutations(range(4), count)))
    assert float(plackett_luce_log_prob(SCORES, draws).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_draws_come_as_often_as_their_probability_says() -> None:
    draws = plackett_luce(SCORES, 2, 20_000, torch.Generator().manual_seed(0))
    for pair in permutations(range(4), 2):
        chance = float(plackett_luce_log_prob(SCORES, torch.tensor([pair])).exp())
        share = float((draws == torch.tensor(pair)).all(1).float().mean())
        assert share == pytest.approx(chance, abs=4 * (chance / 20_000) ** 0.5 + 1e-3)


def test_the_leave_one_out_gradient_is_that_of_the_expected_reward() -> None:
    worth = torch.tensor([1.0, 0.0, 3.0, -1.0])
    scores = SCORES.clone().requires_grad_()
    every = torch.tensor(list(permutations(range(4), 2)))
    expected = (plackett_luce_log_prob(scores, every).exp() * worth[every].sum(1)).sum()
    (exact,) = torch.autograd.grad(expected, scores)
    generator = torch.Generator().manual_seed(0)
    draws = plackett_luce(scores, 2, 40_000, generator)
    rewards = worth[draws].sum(1)
    advantages = rewards - (rewards.sum() - rewards) / (len(rewards) - 1)
    (found,) = torch.autograd.grad((advantages * plackett_luce_log_prob(scores, draws)).mean(), scores)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.03)


def test_gradients_are_finite_when_everything_is_drawn() -> None:
    scores = SCORES.clone().requires_grad_()
    plackett_luce_log_prob(scores, torch.tensor([[2, 0, 3, 1]])).sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_the_published_draw_is_sorted_distinct_and_follows_its_seed() -> None:
    drawn = [
        draw_by_weight(concrete(torch.zeros(50), generator), 30, generator).tolist()
        for generator in (torch.Generator().manual_seed(seed) for seed in (0, 0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(set(drawn[0]))
