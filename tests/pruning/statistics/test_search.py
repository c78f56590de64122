"""Searches on the surrogate, on networks where the best choice is known."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.statistics.search import exchange, removal_order
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.surrogate import Surrogate
from prunepolicy.pruning.units import UnitGraph


@pytest.fixture
def graph() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": 16}
    return adapter.units(config, adapter.shapes(config))


def surrogate_of(graph: UnitGraph, samples: int = 12, shrinkage: float = 0.0) -> Surrogate:
    groups = graph.of_kind("ffn")
    shared = torch.randn(samples, 3)  # Units lie along few directions, so that they make up for each other.
    gradients = {g.name: shared @ torch.randn(3, g.size) + 0.3 * torch.randn(samples, g.size) for g in groups}
    return Surrogate.of(graph, groups, Stats({"gradients": gradients}), shrinkage=shrinkage)


def nobody(surrogate: Surrogate) -> torch.Tensor:
    return torch.zeros(len(surrogate.gradients), dtype=torch.bool)


def lowest_by_trying_all(surrogate: Surrogate, count: int) -> float:
    """The least rise with `count` of 16 units gone from the first group, by trying all choices."""
    name = surrogate.groups[0].name
    everyone = set(range(16))
    return min(
        surrogate.rise({name: tuple(sorted(everyone - set(gone)))}) for gone in combinations(range(16), count)
    )


@pytest.mark.parametrize("shrinkage", [0.0, 0.5])
def test_swaps_find_the_best_choice_of_a_small_group(graph: UnitGraph, shrinkage: float) -> None:
    surrogate = surrogate_of(graph, shrinkage=shrinkage)
    name = surrogate.groups[0].name
    start = {name: tuple(range(6, 16))}
    stays = exchange(surrogate, start, nobody(surrogate), steps=1000, seed=0)
    keep = {name: tuple(stays[name].nonzero().flatten().tolist())}
    assert len(keep[name]) == 10
    assert surrogate.rise(keep) == pytest.approx(lowest_by_trying_all(surrogate, 6), rel=1e-4)
    assert surrogate.rise(keep) < surrogate.rise(start)
    assert all(mask.all() for other, mask in stays.items() if other != name)


@pytest.mark.parametrize("seed", range(5))
def test_a_search_never_ends_above_its_start(graph: UnitGraph, seed: int) -> None:
    surrogate = surrogate_of(graph)
    start = {
        name: tuple(mask.nonzero().flatten().tolist())
        for name, mask in exchange(
            surrogate, {g.name: tuple(range(9)) for g in surrogate.groups}, nobody(surrogate), 200, seed
        ).items()
    }
    again = exchange(surrogate, start, nobody(surrogate), steps=5, seed=seed + 1)
    keep = {name: tuple(mask.nonzero().flatten().tolist()) for name, mask in again.items()}
    assert surrogate.rise(keep) <= surrogate.rise(start) + 1e-6


def test_equal_seeds_give_equal_choices_and_frozen_units_stay_gone(graph: UnitGraph) -> None:
    surrogate = surrogate_of(graph)
    frozen = nobody(surrogate)
    frozen[:4] = True
    start = {g.name: tuple(range(6, 16)) for g in surrogate.groups}
    first, second = (exchange(surrogate, start, frozen, steps=50, seed=3) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not first[surrogate.groups[0].name][:4].any()


def test_greedy_sees_what_single_scores_do_not(graph: UnitGraph) -> None:
    """Alone, unit 8 costs more than unit 3; once unit 7 is gone, its going is a gain."""
    groups = graph.of_kind("ffn")[:1]
    gradients = torch.eye(16) * torch.linspace(4, 8, 16)
    gradients[:, 7], gradients[:, 8] = torch.full((16,), 0.2), torch.full((16,), -0.22)
    gradients[:, 3] = 0.21 * torch.tensor([1.0, -1.0] * 8)
    surrogate = Surrogate.of(graph, groups, Stats({"gradients": {groups[0].name: gradients}}))
    assert surrogate.own.argsort()[:3].tolist() == [7, 3, 8]
    order = removal_order(surrogate, nobody(surrogate), level=False, steps=1000)[groups[0].name]
    assert order.argsort()[:3].tolist() == [7, 8, 3]


def test_groups_of_one_tie_take_turns_when_they_must_stay_level(graph: UnitGraph) -> None:
    surrogate = surrogate_of(graph)
    order = removal_order(surrogate, nobody(surrogate), level=True, steps=1000)
    everyone = torch.cat(list(order.values()))
    for position in range(len(surrogate.groups), len(everyone), len(surrogate.groups)):
        assert len({int((places <= position).sum()) for places in order.values()}) == 1
