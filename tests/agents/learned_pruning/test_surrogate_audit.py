from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from prunepolicy.agents.learned_pruning.surrogate_audit import Audit, audit, plans_around
from prunepolicy.envs.prune_case import PruneCase, invented_case
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.units import Keep


@pytest.fixture
def case() -> PruneCase:
    return invented_case(0)


def test_a_surrogate_that_is_right_convinces(case: PruneCase) -> None:
    found = audit(case, lambda keep: case.surrogate.rise(keep) / 100)
    assert (found.across.tau, found.equal.tau) == (1, 1)
    assert found.is_convincing
    assert len(found.sizes) == 24
    assert sorted(set(found.sizes)) == [0.7, 0.8, 0.9]


def test_one_that_only_knows_sizes_does_not(case: PruneCase) -> None:
    generator = torch.Generator().manual_seed(0)

    def knows_sizes(keep: Keep) -> float:
        return -case.meter(keep) + 0.01 * float(torch.rand(1, generator=generator))

    found = audit(case, knows_sizes, plans=48)
    assert found.across.tau > 0.5
    assert abs(found.equal.tau) < 0.3
    assert not found.is_convincing


def test_few_plans_do_not_convince() -> None:
    order = (1.0, 2.0, 3.0)
    assert not Audit((0.8,) * 3, order, order).is_convincing
    assert not Audit((0.8,) * 12, tuple(range(12)), tuple(range(12, 0, -1))).is_convincing


@pytest.mark.parametrize("uniform", [True, False])
def test_plans_meet_the_budget_around_the_reference(case: PruneCase, uniform: bool) -> None:
    budget = Budget(0.75, "ffn", uniform=uniform)
    shaped = replace(case, budget=budget)
    plans = list(plans_around(shaped, budget, 10, seed=3))
    reference = shaped.spend(shaped.fisher, budget)
    assert plans[0] == reference
    assert plans == list(plans_around(shaped, budget, 10, seed=3))
    assert plans != list(plans_around(shaped, budget, 10, seed=4))
    assert len({str(sorted(plan.items())) for plan in plans}) >= 7
    for plan in plans:
        assert 0.7 < shaped.meter(plan) <= 0.75
    widths = {tuple(len(units) for units in plan.values()) for plan in plans}
    assert (len(widths) == 1) == uniform
    changed = [shared(reference, plan) for plan in plans]
    assert changed[1] >= changed[3] >= changed[7]


def shared(first: Keep, second: Keep) -> int:
    return sum(len(set(first[name]) & set(second[name])) for name in first)
