from __future__ import annotations

import pytest
import torch

from prunepolicy.agents.metanet.drawn_cuts import DrawnCuts, advantages
from prunepolicy.metanet.weight_network.heads import VALUE

SAID = {"a": torch.zeros(3), "b": torch.full((2,), 0.5), VALUE: torch.tensor(0.25)}


def drawn(draws: int = 4, seed: int = 0) -> DrawnCuts:
    return DrawnCuts.around(SAID, draws, 0.3, torch.Generator().manual_seed(seed))


def test_every_unit_of_a_group_has_the_decision_that_was_drawn_for_it() -> None:
    cuts = drawn()
    for number, output in enumerate(cuts.each(SAID)):
        assert output.keys() == {"a", "b"}
        assert torch.equal(output["a"], cuts.decisions["a"][number].repeat(3))
    far = DrawnCuts.around(SAID, 4000, 0.3, torch.Generator().manual_seed(1)).decisions["b"]
    assert float(far.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(far.std()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(drawn(seed=2).decisions["a"], drawn(seed=2).decisions["a"])


def test_a_draw_is_compared_with_the_others_and_alone_with_the_value() -> None:
    value = torch.tensor(0.5)
    assert advantages(torch.tensor([1.0, 2.0, 6.0]), value).tolist() == [-3.0, -1.5, 4.5]
    assert advantages(torch.tensor([2.0]), value).tolist() == [1.5]


def test_the_gradient_points_to_what_was_better() -> None:
    output = {name: numbers.clone().requires_grad_() for name, numbers in SAID.items()}
    cuts, rewards = drawn(), torch.tensor([0.0, 0.0, 1.0, 0.0])
    cuts.loss(rewards, output).backward()
    for name in ("a", "b"):
        gradient, away = output[name].grad, cuts.decisions[name] - SAID[name][0]
        assert gradient is not None
        # Of a normal distribution: the advantage times the distance over the variance, the mean over draws.
        expected = (advantages(rewards, SAID[VALUE]) * away).mean() / 0.3**2
        assert float(gradient.sum()) == pytest.approx(-float(expected), rel=1e-5)


def test_the_value_learns_what_to_expect() -> None:
    output = {**SAID, VALUE: torch.tensor(0.0, requires_grad=True)}
    drawn().loss(torch.tensor([1.0, 2.0, 3.0, 2.0]), output).backward()
    assert output[VALUE].grad == pytest.approx(0.5 * 2 * (0 - 2))
