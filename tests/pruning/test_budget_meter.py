"""The meter's shares against counts by hand."""

from __future__ import annotations

import pytest

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.units import UnitGraph

HALF = {f"layers.{layer}.ffn": tuple(range(24)) for layer in range(3)}


@pytest.fixture(scope="module")
def graph() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    return adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))


@pytest.mark.parametrize("of", ["params", "flops", "memory", "ffn", "heads", "layers"])
def test_everything_kept_is_one(of: str, graph: UnitGraph) -> None:
    assert meter_for(graph, Budget(0.8, of))({}) == pytest.approx(1)  # type: ignore[arg-type]


def test_shares_by_hand(graph: UnitGraph) -> None:
    whole, removed = cost_of(graph), 3 * 3 * 24 * 32
    assert meter_for(graph, Budget(0.5))(HALF) == pytest.approx(1 - removed / whole.params)
    assert meter_for(graph, Budget(0.5, "flops"))(HALF) == pytest.approx(1 - 2 * removed / whole.flops)
    assert meter_for(graph, Budget(0.5, "ffn"))(HALF) == 0.5
    assert meter_for(graph, Budget(0.5, "layers"))({"layers": (0, 2)}) == pytest.approx(2 / 3)


def test_heads_count_query_heads(graph: UnitGraph) -> None:
    meter = meter_for(graph, Budget(0.5, "heads"))
    one_group = {f"layers.{layer}.kv_heads": (0,) for layer in range(3)}
    assert meter(one_group) == pytest.approx(0.5)
    assert meter(one_group | {"layers.0.query_heads": (1,)}) == pytest.approx((0.25 + 0.5 + 0.5) / 3)


def test_memory_grows_with_the_context(graph: UnitGraph) -> None:
    one_group = {f"layers.{layer}.kv_heads": (0,) for layer in range(3)}
    short, long = (meter_for(graph, Budget(0.5, "memory", tokens))(one_group) for tokens in (0, 100_000))
    assert long < short
    assert long == pytest.approx(0.5, abs=0.05)


def test_latency_is_relative_to_the_whole_network(graph: UnitGraph) -> None:
    meter = meter_for(graph, Budget(0.5, "latency"), lambda keep: 3.0 if keep else 4.0)
    assert meter(HALF) == 0.75
    with pytest.raises(UsageError, match="latency table"):
        meter_for(graph, Budget(0.5, "latency"))


def test_kinds_that_are_missing_are_named(graph: UnitGraph) -> None:
    with pytest.raises(UsageError, match="no experts"):
        meter_for(graph, Budget(0.5, "experts"))
