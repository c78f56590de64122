"""Costs are exact, and nothing gets dearer when more of it goes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.checkpoint.cut import cut_tensor
from prunepolicy.pruning.cost import Cost, cost_of
from prunepolicy.pruning.keep_masks import is_dropped, kept_indices, removed_units
from prunepolicy.pruning.units import Keep, UnitGraph

quick = settings(derandomize=True, deadline=1000, max_examples=15)
seeds = st.integers(0, 2**32 - 1)


def tiny_graph(family: str) -> UnitGraph:
    config = adapters[family].tiny()
    return adapters[family].units(config, adapters[family].shapes(config))


@pytest.fixture(scope="module", params=list(adapters))
def any_graph(request: pytest.FixtureRequest) -> UnitGraph:
    """The tiny network of every family, one after the other."""
    return tiny_graph(request.param)


@pytest.fixture(scope="module")
def llama() -> UnitGraph:
    return tiny_graph("llama")


def random_keep(graph: UnitGraph, seed: int, within: Keep | None = None) -> Keep:
    """Keep a random share of some groups, at most what `within` keeps and at least their floors."""
    rng, keep = np.random.default_rng(seed), dict(within or {})
    for group in graph.groups:
        units = np.array(keep.get(group.name, range(group.size)))
        if rng.random() < 0.6:
            count = int(rng.integers(min(group.floor, len(units)), len(units) + 1))
            keep[group.name] = tuple(sorted(rng.permutation(units)[:count].tolist()))
    return keep


def numbers(graph: UnitGraph, cost: Cost) -> tuple[float, ...]:
    """What can't rise. Without the narrowest expert a token meets wider ones: there, operations can."""
    has_experts = any(spec.average_over for spec in graph.tensors.values())
    return (cost.params, cost.weight_bytes, cost.cache_entries, 0.0 if has_experts else cost.flops)


@quick
@given(first=seeds, second=seeds)
def test_removing_more_never_costs_more(any_graph: UnitGraph, first: int, second: int) -> None:
    some = random_keep(any_graph, first)
    fewer = random_keep(any_graph, second, within=some)
    steps = [numbers(any_graph, cost_of(any_graph, keep)) for keep in ({}, some, fewer)]
    for before, after in pairwise(steps):
        assert all(b <= a * (1 + 1e-12) for a, b in zip(before, after, strict=True))


@quick
@given(seed=seeds)
def test_the_count_is_that_of_the_tensors_actually_cut(any_graph: UnitGraph, seed: int) -> None:
    keep = random_keep(any_graph, seed)
    removed = removed_units(any_graph, keep)
    params, nbytes = 0, 0
    for name, spec in any_graph.tensors.items():
        if is_dropped(any_graph, removed, name):
            continue
        kept = {axis: torch.from_numpy(ids) for axis, ids in kept_indices(any_graph, removed, name).items()}
        entries = cut_tensor(torch.zeros(spec.shape), kept).numel()
        params += entries if spec.is_parameter else 0
        nbytes += entries * spec.bytes_per_entry
    assert cost_of(any_graph, keep).params == params
    assert cost_of(any_graph, keep).weight_bytes == nbytes


def test_nothing_removed_costs_everything(llama: UnitGraph) -> None:
    whole = {group.name: tuple(range(group.size)) for group in llama.groups}
    assert cost_of(llama, whole) == cost_of(llama) == cost_of(llama, {})
    assert cost_of(llama).params == sum(math.prod(spec.shape) for spec in llama.tensors.values())


def test_a_matrix_costs_two_operations_an_entry_and_a_tied_embedding_is_one(llama: UnitGraph) -> None:
    matrices = sum(math.prod(spec.shape) for spec in llama.tensors.values() if len(spec.shape) == 2)
    assert cost_of(llama).flops == 2 * matrices


def test_memory_adds_the_cache_of_one_sequence(llama: UnitGraph) -> None:
    cost = cost_of(llama)
    # 3 layers, 2 KV heads, keys and values of 8 numbers each.
    assert cost.cache_entries == 3 * 2 * 2 * 8
    assert cost.memory(0) == cost.weight_bytes
    assert cost.memory(100) - cost.memory(0) == 100 * cost.cache_entries * 2
    assert cost.memory(100, bytes_per_entry=4) - cost.memory(0) == 100 * cost.cache_entries * 4


def test_the_cache_shrinks_with_kv_heads_and_layers_but_not_with_channels(llama: UnitGraph) -> None:
    whole = cost_of(llama).cache_entries
    assert cost_of(llama, {"layers.0.ffn": (0,)}).cache_entries == whole
    assert cost_of(llama, {"layers": (0, 2)}).cache_entries == whole * 2 // 3
    assert cost_of(llama, {"layers.1.kv_heads": (1,)}).cache_entries == whole * 5 // 6
    # What a dropped layer would have kept of its heads no longer matters.
    assert cost_of(llama, {"layers": (0, 2), "layers.1.kv_heads": (1,)}).cache_entries == whole * 2 // 3


def test_costs_of_axes_that_shrink_together_do_not_add_up(llama: UnitGraph) -> None:
    whole = cost_of(llama).params
    kv, query = {"layers.0.kv_heads": (0,)}, {"layers.0.query_heads": (1,)}
    saved = [whole - cost_of(llama, keep).params for keep in (kv, query, kv | query)]
    assert saved[2] < saved[0] + saved[1]
