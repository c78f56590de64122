"""Masks of groups that share an axis meet; names are counted anew at every level."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prunepolicy.pruning.keep_masks import is_dropped, kept_indices, kept_shape, removed_units, renumbered
from prunepolicy.pruning.units import Keep, Slice, TensorSpec, UnitGraph, UnitGroup


@st.composite
def subsets(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    return tuple(sorted(draw(st.sets(st.integers(0, size - 1), min_size=1))))


@st.composite
def heads(draw: st.DrawFn) -> tuple[int, int, int, Keep]:
    kv_heads, per_kv, head_dim = (draw(st.integers(1, 5)) for _ in range(3))
    keep = {"kv": draw(subsets(kv_heads)), "query": draw(subsets(per_kv))}
    return kv_heads, per_kv, head_dim, keep


@given(heads())
def test_a_query_head_stays_when_both_its_groups_keep_it(drawn: tuple[int, int, int, Keep]) -> None:
    kv_heads, per_kv, head_dim, keep = drawn
    period = per_kv * head_dim
    width = kv_heads * period
    graph = UnitGraph(
        "test",
        {"o": TensorSpec((8, width)), "k": TensorSpec((kv_heads * head_dim, 8))},
        (
            UnitGroup("kv", "kv_head", kv_heads, "a", (Slice("o", 1, period), Slice("k", 0, head_dim))),
            UnitGroup(
                "query", "query_head", per_kv, "b", (Slice("o", 1, head_dim, blocks=kv_heads, period=period),)
            ),
        ),
    )
    removed = removed_units(graph, keep)
    entries = np.arange(width).reshape(kv_heads, per_kv, head_dim)
    expected = entries[np.ix_(keep["kv"], keep["query"])].ravel()
    np.testing.assert_array_equal(kept_indices(graph, removed, "o").get(1, np.arange(width)), expected)
    assert kept_shape(graph, removed, "o") == (8, len(expected))
    assert kept_shape(graph, removed, "k") == (len(keep["kv"]) * head_dim, 8)


@st.composite
def nests(draw: st.DrawFn) -> tuple[int, int, Keep]:
    depth, experts = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    keep = {f"experts.{layer}": draw(subsets(experts)) for layer in range(depth)}
    return depth, experts, {**keep, "layers": draw(subsets(depth))}


@given(nests())
def test_nested_prefixes_are_numbered_without_holes(drawn: tuple[int, int, Keep]) -> None:
    depth, experts, keep = drawn
    names = [f"m.h.{layer}.e.{expert}.w" for layer in range(depth) for expert in range(experts)]
    routers = tuple(
        UnitGroup(f"experts.{layer}", "expert", experts, "a", prefix=f"m.h.{layer}.e.", layer=layer)
        for layer in range(depth)
    )
    graph = UnitGraph(
        "test",
        {name: TensorSpec((1,)) for name in names},
        (*routers, UnitGroup("layers", "layer", depth, "b", prefix="m.h.")),
    )
    removed = removed_units(graph, keep)
    staying = [name for name in names if not is_dropped(graph, removed, name)]
    assert staying == [f"m.h.{i}.e.{e}.w" for i in keep["layers"] for e in keep[f"experts.{i}"]]
    assert [renumbered(graph, removed, name) for name in staying] == [
        f"m.h.{new}.e.{expert}.w"
        for new, layer in enumerate(keep["layers"])
        for expert in range(len(keep[f"experts.{layer}"]))
    ]
    assert renumbered(graph, removed, "head.weight") == "head.weight"
