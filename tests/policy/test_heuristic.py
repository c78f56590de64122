"""Removal in rounds, and what a heuristic policy asks for."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from prunepolicy.policy.base import Instruments
from prunepolicy.policy.budgeting import spend, task_for
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import BudgetError, PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
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


def test_every_round_is_rounded_down_to_whole_layers() -> None:
    """Of two layers one may go; a round that aims at 1.4 of them takes one."""
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "num_hidden_layers": 2}
    graph, seen = adapter.units(config, adapter.shapes(config)), []

    def refresh(plan: Plan) -> Stats:
        seen.append(plan)
        return norms(graph, 1)

    policy, budget = load_policy("magnitude").in_rounds(2), Budget(0.5, "layers")
    plan = policy.plan(graph, norms(graph, 0), budget, Instruments(refresh=refresh))
    assert len(plan.keep["layers"]) == 1
    assert seen[0].keep == plan.keep
    with pytest.raises(BudgetError, match=r"0\.4 of layers"):
        policy.plan(graph, norms(graph, 0), Budget(0.4, "layers"), Instruments(refresh=refresh))


def test_nested_plans_keep_subsets(graph: UnitGraph) -> None:
    policy, stats = load_policy("magnitude"), norms(graph, 0)
    large = policy.plan(graph, stats, Budget(0.75, "ffn"))
    small = policy.plan(graph, norms(graph, 1), Budget(0.5, "ffn"), Instruments(within=large))
    assert all(set(small.keep[name]) < set(large.keep[name]) for name in large.keep)


def test_a_kind_that_builds_on_heuristics_keeps_to_its_own_choices_in_rounds() -> None:
    class Mine(Heuristic):
        pass

    assert isinstance(Mine().in_rounds(2), Mine)


def test_a_senseless_number_of_rounds_is_refused() -> None:
    with pytest.raises(UsageError, match="between 1 and 64; got 0"):
        load_policy("fisher").in_rounds(0)


def test_uniform_and_per_layer_budgets_may_use_different_scores(graph: UnitGraph) -> None:
    policy = load_policy("default")
    assert policy.probe.source == "varied"
    assert policy.needs(graph, Budget(0.8)) == {"activations", "gradients"}
    assert policy.needs(graph, replace(Budget(0.8), uniform=False)) == {"gradients"}


@pytest.mark.parametrize(
    ("policy", "budget", "sentence"),
    [
        ("default", Budget(0.01), "ffn alone leaves"),
        ("fisher", Budget(0.01), "ffn and heads together leave"),
        ("greedy", Budget(0.01, "layers"), "layers alone leave"),
        ("qubo", Budget(0.01), "can't be reached"),
        ("angular", Budget(0.01), "layers alone leave"),
        ("magnitude", Budget(0.9, uniform=False), "can't be compared across layers"),
        ("default", Budget(0.1, "heads", multiple_of=1), "heads alone leave"),
        ("activation", Budget(0.9, "experts"), "no experts"),
    ],
)
def test_what_no_statistics_change_is_refused_before_there_are_any(
    graph: UnitGraph, policy: str, budget: Budget, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        load_policy(policy).check(graph, budget)


@pytest.mark.parametrize("policy", ["default", "fisher", "greedy", "magnitude"])
@pytest.mark.parametrize("of", ["params", "flops", "memory", "ffn", "heads", "layers"])
@pytest.mark.parametrize("units", [(), ("ffn", "layers"), ("heads",)])
def test_the_share_that_a_refusal_names_can_be_asked_for(
    graph: UnitGraph, policy: str, of: Any, units: tuple[str, ...]
) -> None:
    budget = Budget(0.001, of, units=units)
    with pytest.raises(BudgetError) as refused:
        load_policy(policy).check(graph, budget)
    first, *others = map(float, re.findall(r"0\.\d{4}", str(refused.value)))
    load_policy(policy).check(graph, replace(budget, keep=first))
    for share in others:
        load_policy(policy).check(graph, replace(budget, keep=share, units=("ffn", "heads", "layers")))


@pytest.mark.parametrize("allocator", ["global_rank", "global_score"])
def test_a_refusal_knows_what_its_allocator_leaves(graph: UnitGraph, allocator: str) -> None:
    policy, budget = Heuristic(HeuristicConfig(criterion="fisher", allocator=allocator)), Budget(0.01)
    with pytest.raises(BudgetError) as refused:
        policy.check(graph, replace(budget, uniform=False))
    named = float(re.findall(r"0\.\d{4}", str(refused.value))[0])
    scores = {g.name: torch.rand(g.size) for g in policy.groups(graph, replace(budget, uniform=False))}
    task = task_for(graph, scores, Budget(named, uniform=False), Instruments(), comparable=True)
    assert task.meter(spend(task, allocator)) <= named


@pytest.mark.parametrize("policy", ["default", "fisher", "greedy", "magnitude"])
def test_what_can_be_planned_passes_its_check(graph: UnitGraph, policy: str) -> None:
    load_policy(policy).check(graph, Budget(0.8))
    load_policy(policy).check(graph, Budget(0.5, "ffn"))


def test_a_misspelt_statistic_gets_those_there_are(graph: UnitGraph) -> None:
    name = graph.of_kind("ffn")[0].name
    with pytest.raises(PrunePolicyError, match=r"Did you mean '(\w+)'\? Known: .*\1"):
        norms(graph, 0).get("weight_l22", name)
