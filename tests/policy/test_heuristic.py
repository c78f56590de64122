"""Removal in rounds, and what a heuristic policy asks for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from prunepolicy.policy.base import Instruments
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.stats import Stats
from prunepolicy.pruning.units import UnitGraph


@pytest.fixture
def graph() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": 512}
    return adapter.units(config, adapter.shapes(config))


def norms(graph: UnitGraph, seed: int) -> Stats:
    generator = torch.Generator().manual_seed(seed)
    return Stats({"weight_l2": {g.name: torch.rand(g.size, generator=generator) for g in graph.groups}})


def test_rounds_measure_anew_and_stay_inside_the_plan_before(graph: UnitGraph) -> None:
    seen: list[Plan] = []

    def refresh(plan: Plan) -> Stats:
        seen.append(plan)
        return norms(graph, len(seen))

    policy = load_policy("magnitude").in_rounds(3)
    plan = policy.plan(graph, norms(graph, 0), Budget(0.5, "ffn"), Instruments(refresh=refresh))
    assert len(seen) == 2
    steps = [*seen, plan]
    for before, after in pairwise(steps):
        for name, units in after.keep.items():
            assert set(units) < set(before.keep[name])
    assert {len(units) for units in plan.keep.values()} == {256}
    once = load_policy("magnitude").plan(graph, norms(graph, 0), Budget(0.5, "ffn"))
    assert once.keep != plan.keep


def test_nested_plans_keep_subsets(graph: UnitGraph) -> None:
    policy, stats = load_policy("magnitude"), norms(graph, 0)
    large = policy.plan(graph, stats, Budget(0.75, "ffn"))
    small = policy.plan(graph, norms(graph, 1), Budget(0.5, "ffn"), Instruments(within=large))
    assert all(set(small.keep[name]) < set(large.keep[name]) for name in large.keep)


def test_a_senseless_number_of_rounds_is_refused() -> None:
    with pytest.raises(UsageError, match="between 1 and 64; got 0"):
        load_policy("fisher").in_rounds(0)


def test_uniform_and_per_layer_budgets_may_use_different_scores(graph: UnitGraph) -> None:
    policy = load_policy("default")
    assert policy.needs(graph, Budget(0.8)) == {"activations", "gradients"}
    assert policy.needs(graph, replace(Budget(0.8), uniform=False)) == {"gradients"}
