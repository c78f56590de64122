"""Slices give every entry of their tensor's axis to exactly one unit."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepolicy.pruning.units import Slice, UnitGraph, UnitGroup

quick = settings(derandomize=True, deadline=1000, max_examples=100)
small = st.integers(1, 6)


@quick
@given(units=small, width=small, blocks=small, offset=st.integers(0, 9), gap=st.integers(0, 4))
def test_units_are_disjoint_and_complete(units: int, width: int, blocks: int, offset: int, gap: int) -> None:
    period = units * width + gap
    part = Slice("weight", 0, width, offset, blocks, period)
    owned = [set(part.indices(np.array([unit])).ravel().tolist()) for unit in range(units)]
    assert all(len(entries) == blocks * width for entries in owned)
    assert not any(one & other for one, other in combinations(owned, 2))
    expected = {offset + block * period + at for block in range(blocks) for at in range(units * width)}
    assert set.union(*owned) == expected


@quick
@given(width=small, blocks=small, chosen=st.lists(st.integers(0, 9), unique=True, min_size=1))
def test_many_units_are_the_union_of_single_ones(width: int, blocks: int, chosen: list[int]) -> None:
    part = Slice("weight", 0, width, blocks=blocks, period=10 * width)
    together = part.indices(np.array(chosen))
    assert together.shape == (blocks, len(chosen), width)
    for place, unit in enumerate(chosen):
        np.testing.assert_array_equal(together[:, place], part.indices(np.array([unit]))[:, 0])


def test_query_heads_interleave_with_their_kv_heads() -> None:
    # Two KV heads, three query heads each, two entries a head: query head 1 of both KV heads.
    part = Slice("q_proj.weight", 0, width=2, blocks=2, period=6)
    assert part.indices(np.array([1])).ravel().tolist() == [2, 3, 8, 9]


@pytest.fixture
def graph() -> UnitGraph:
    channels = (Slice("h.0.up", 0), Slice("h.0.down", 1, consumer=True))
    return UnitGraph(
        "toy",
        {},
        (
            UnitGroup("layers.0.ffn", "ffn", 4, "width", channels, layer=0),
            UnitGroup("layers.1.ffn", "ffn", 4, "width", (Slice("h.1.up", 0),), layer=1),
            UnitGroup("layers.1.experts", "expert", 3, "experts", prefix="h.1.experts.", layer=1),
            UnitGroup("layers", "layer", 2, "depth", prefix="h."),
        ),
    )


def test_groups_are_found_by_name_kind_tie_and_tensor(graph: UnitGraph) -> None:
    assert graph["layers.1.ffn"].layer == 1
    assert "layers.1.ffn" in graph
    assert "layers.2.ffn" not in graph
    assert graph.kinds == ("ffn", "expert", "layer")
    assert [group.name for group in graph.ties["width"]] == ["layers.0.ffn", "layers.1.ffn"]
    assert [group.name for group in graph.of_kind("layer", "expert")] == ["layers.1.experts", "layers"]
    assert [(group.name, part.axis) for group, part in graph.slices_of["h.0.down"]] == [("layers.0.ffn", 1)]


@pytest.mark.parametrize(
    ("tensor", "owners"),
    [
        ("h.1.experts.2.up", {("layers", 1), ("layers.1.experts", 2)}),
        ("h.0.up", {("layers", 0)}),
        ("h.norm", set()),
        ("embed", set()),
    ],
)
def test_whole_tensors_have_owners(graph: UnitGraph, tensor: str, owners: set[tuple[str, int]]) -> None:
    assert {(group.name, unit) for group, unit in graph.owner_of(tensor)} == owners
