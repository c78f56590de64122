from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from prunepolicy.agents.thinking.lm.engines import engines
from prunepolicy.agents.thinking.lm.imitation import Imitation
from prunepolicy.agents.thinking.lm.objective import (
    CompletionLogProbs,
    PolicyLossRecipe,
    clipped_loss,
    k3_kl,
    token_weights,
)
from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.reinforcement import Reinforcement, advantages_of
from prunepolicy.agents.thinking.lm.rollout_batch import Group, RolloutWorker
from prunepolicy.agents.thinking.lm.scoring import by_length
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.envs.thinking.rollouts import Rollouts

MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
DRAWN = torch.log(torch.tensor([[0.5, 0.4, 0.3], [0.2, 1.0, 1.0]]))


def loss_and_gradient(
    ratios: list[list[float]], advantages: list[float], recipe: PolicyLossRecipe
) -> tuple[float, torch.Tensor, float]:
    now = (DRAWN + torch.tensor(ratios).log()).requires_grad_()
    weights = token_weights(MASK, recipe.mode_weight)
    loss = clipped_loss(CompletionLogProbs(now, DRAWN, MASK), torch.tensor(advantages), weights, recipe)
    loss.value.backward()
    assert now.grad is not None
    return float(loss.value.detach()), now.grad, loss.clipped


def test_on_policy_gradients_are_advantages_over_all_tokens_of_the_batch() -> None:
    ones = [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    loss, gradient, clipped = loss_and_gradient(ones, [2.0, -1.0], PolicyLossRecipe())
    assert loss == pytest.approx(-(3 * 2 - 1) / 4)
    expected = torch.tensor([[-0.5, -0.5, -0.5], [0.25, 0.0, 0.0]])
    torch.testing.assert_close(gradient, expected)
    assert clipped == 0


def test_the_clip_takes_gradients_away_where_it_is_pessimistic_only() -> None:
    ratios = [[1.5, 0.5, 1.0], [0.5, 1.0, 1.0]]
    _, gradient, clipped = loss_and_gradient(ratios, [1.0, -1.0], PolicyLossRecipe(clip_high=0.28))
    assert gradient[0].tolist() == pytest.approx([0.0, -0.5 / 4, -0.25])
    assert gradient[1, 0] == 0
    assert clipped == 2
    _, other, _ = loss_and_gradient(ratios, [-1.0, 1.0], PolicyLossRecipe(clip_high=0.28))
    assert other[0].tolist() == pytest.approx([1.5 / 4, 0.0, 0.25])
    assert float(other[1, 0]) == pytest.approx(-0.5 / 4)


def test_the_sequence_ratio_is_the_geometric_mean_of_the_tokens_ratios() -> None:
    ratios = [[1.2, 0.9, 1.0], [1.1, 1.0, 1.0]]
    loss, _, _ = loss_and_gradient(ratios, [1.0, 0.0], PolicyLossRecipe(ratio="sequence"))
    assert loss == pytest.approx(-3 / 4 * (1.2 * 0.9) ** (1 / 3), rel=1e-5)


def test_the_mode_token_has_a_weight_of_its_own() -> None:
    weights = token_weights(MASK, 0.1)
    assert weights[:, 0].tolist() == pytest.approx([0.05, 0.05])
    assert float(weights[:, 1:].sum()) == pytest.approx(1.0)
    assert float(token_weights(MASK, None).sum()) == pytest.approx(1.0)
    assert (weights * (1 - MASK)).sum() == 0


def test_the_divergence_is_never_negative_and_right_in_expectation() -> None:
    now, start = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    found = k3_kl(now.log(), start.log())
    assert (found >= 0).all()
    exact = float((now * (now / start).log()).sum())
    assert float((now * found).sum()) == pytest.approx(exact, rel=1e-5)


def test_advantages_are_what_was_asked_for() -> None:
    rewards, groups = np.array([1.0, 3.0, 0.0, 0.0]), np.array([0, 0, 1, 1])
    table = Rollouts.of(groups, [1] * 4, [False] * 4, [5] * 4)
    scaled = advantages_of(rewards, table, PolicyLossRecipe()).tolist()
    assert scaled == pytest.approx([-1 / math.sqrt(2), 1 / math.sqrt(2), 0, 0], abs=1e-5)
    assert advantages_of(rewards, table, PolicyLossRecipe(advantage="none")).tolist() == [-1, 1, 0, 0]
    assert advantages_of(rewards, table, PolicyLossRecipe(advantage="raw")).tolist() == [1, 3, 0, 0]


@pytest.mark.parametrize("scale", ["group", "batch", "none", "raw"])
def test_thoughts_that_the_limit_cut_off_teach_nothing(scale: Any) -> None:
    """Else a limit that is too low for thoughts would teach to answer at once, right or wrong."""
    modes, correct = [1, 1, 0, 0, 1, 1], [False, False, True, True, False, True]
    cut_off = [True, True, False, False, True, False]
    readable = [not cut for cut in cut_off]
    table = Rollouts.of(
        [0] * 4 + [1] * 2, modes, correct, [9, 9, 2, 2, 9, 7], cut_off=cut_off, well_formed=readable
    )
    rewards = np.array([0.0, 0.0, 2.0, 2.0, 0.0, 1.0])
    found = advantages_of(rewards, table, PolicyLossRecipe(advantage=scale))
    assert found[torch.tensor(cut_off)].tolist() == [0, 0, 0]
    if scale != "raw":
        assert found.tolist() == [0] * 6  # who is left has nobody to be better than
    answered = Rollouts.of([0, 0], [0, 0], [False, True], [9, 2], cut_off=[True, False])
    assert advantages_of(np.array([-1.0, 2.0]), answered, PolicyLossRecipe(advantage="none"))[0] < 0


def test_batches_of_like_lengths_hold_every_row_once_within_their_size() -> None:
    lengths = [5, 30, 7, 8, 29, 6, 90]
    batches = list(by_length(lengths, 60))
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 60 for batch in batches[:-1])
    assert batches[-1] == [6]


def gradient_of(policy_model: PolicyModel) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in policy_model.model.parameters()])
    policy_model.model.zero_grad()
    return found


def test_micro_batches_add_up_to_the_batch(policy_model: PolicyModel) -> None:
    problem = Problem("modular_chain", "a1b2 mod 5?", "3", 1, ("1b2=3",))
    rollout_worker = RolloutWorker(engines["transformers"].open(policy_model.model), policy_model.prompting)
    batch = rollout_worker.roll(
        [Group(problem, number, 4, number) for number in range(3)], policy_model.sampling(9)
    )
    advantages, scorer = torch.linspace(-1, 1, 12), policy_model.scorer(torch.float32)
    gradients = []
    for size in (10_000, 60):
        update = Reinforcement(scorer, scorer, PolicyLossRecipe(beta=0.1), size)
        for loss in update.losses(batch, advantages, range(12)):
            loss.backward()
        gradients.append(gradient_of(policy_model))
        assert update.sums.rows == 12
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-3)
    rows = [(list(prompt), tokens) for prompt, tokens in zip(batch.prompts, batch.tokens, strict=True)]
    for weighted, mean in ((False, "tokens"), (True, "tokens"), (False, "demonstrations")):
        found = []
        for size in (10_000, 60):
            for loss in Imitation(scorer, weighted, size, mean).losses(rows):
                loss.backward()
            found.append(gradient_of(policy_model))
        torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-3)


def test_a_mean_over_demonstrations_does_not_drown_short_ones(policy_model: PolicyModel) -> None:
    rows = [([9, 9], [5]), ([9, 9], [6] * 9)]
    scorer = policy_model.scorer(torch.float32)
    scores = scorer(*zip(*rows, strict=True))
    by_row = -(scores.log_probs.sum(1) / scores.mask.sum(1)).detach()
    found = {
        mean: sum(float(loss.detach()) for loss in Imitation(scorer, False, 1000, mean).losses(rows))
        for mean in ("tokens", "demonstrations")
    }
    assert found["demonstrations"] == pytest.approx(float(by_row.mean()), rel=1e-5)
    assert found["tokens"] == pytest.approx(float((by_row[0] + 9 * by_row[1]) / 10), rel=1e-5)
