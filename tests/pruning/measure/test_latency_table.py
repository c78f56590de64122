"""The latency table adds up what was measured, never rewards keeping more, and remembers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepolicy.pruning.adapters import adapter_for, adapters
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.keep_masks import kept_shape, removed_units
from prunepolicy.pruning.measure.latency_table import Curve, LatencyTable, ProductTimer, Setting, isotonic
from prunepolicy.pruning.units import Keep, TensorSpec, UnitGraph

Make = Callable[..., Checkpoint]
SETTING = Setting(torch.device("cpu"), torch.float32, widths=4)


def exact_timer(rows: int, columns: int) -> float:
    return 1e-6 + 1e-9 * rows * columns


def noisy_timer(rows: int, columns: int) -> float:
    noise = np.random.default_rng(rows * 1000 + columns).uniform(0.3, 3)
    return exact_timer(rows, columns) * float(noise)


def never_called(rows: int, columns: int) -> float:
    raise AssertionError(f"{rows} x {columns} was measured again")


def tiny_graph() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    return adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))


def keep_most(graph: UnitGraph, share: float) -> Keep:
    return {
        group.name: tuple(range(max(1, round(group.size * share))))
        for group in graph.groups
        if group.kind != "layer"
    }


@pytest.mark.parametrize("share", [1.0, 0.75, 0.5])
def test_sums_the_products_of_what_stays(share: float) -> None:
    graph = tiny_graph()
    keep = keep_most(graph, share)
    removed = removed_units(graph, keep)
    expected = sum(
        exact_timer(*kept_shape(graph, removed, name)) for name, spec in graph.tensors.items() if spec.flops
    )
    table = LatencyTable.measure(graph, SETTING, exact_timer)
    assert table.latency(graph, keep) == pytest.approx(expected)


def test_a_dropped_layer_costs_nothing() -> None:
    graph = tiny_graph()
    table = LatencyTable.measure(graph, SETTING, exact_timer)
    head = exact_timer(64, 32)
    whole, shorter = (table.latency(graph, {"layers": kept}) - head for kept in ((0, 1, 2), (0, 2)))
    assert shorter == pytest.approx(whole * 2 / 3)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_more_kept_never_costs_less(data: st.DataObject) -> None:
    graph = tiny_graph()
    table = LatencyTable.measure(graph, Setting(torch.device("cpu"), torch.float32, widths=5), noisy_timer)
    more, less = {}, {}
    for group in graph.groups:
        units = data.draw(st.sets(st.integers(0, group.size - 1), min_size=1))
        more[group.name] = tuple(sorted(units))
        less[group.name] = tuple(sorted(data.draw(st.sets(st.sampled_from(sorted(units)), min_size=1))))
    assert table.latency(graph, less) <= table.latency(graph, more) * (1 + 1e-12)


@given(st.lists(st.floats(0, 1e3), min_size=1))
def test_isotonic_rises_and_keeps_the_sum(values: list[float]) -> None:
    fitted = isotonic(values)
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(fitted))
    assert sum(fitted) == pytest.approx(sum(values))
    assert isotonic(sorted(values)) == sorted(values)


def test_times_are_taken_once_per_machine_and_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "prunepolicy.pruning.measure.latency_table.device_name", lambda device: "test_times_once"
    )
    graph = tiny_graph()
    first = LatencyTable.measure(graph, SETTING, exact_timer)
    assert LatencyTable.measure(graph, SETTING, never_called) == first
    with pytest.raises(AssertionError, match="measured again"):
        LatencyTable.measure(
            graph, Setting(torch.device("cpu"), torch.float32, tokens=8, widths=4), never_called
        )
    SETTING.cache_file().write_text("damaged")
    assert LatencyTable.measure(graph, SETTING, exact_timer) == first


def convolution_timer(rows: int, columns: int, height: int = 1, width: int = 1, side: int = 1) -> float:
    return 1e-6 + 1e-9 * rows * columns * height * width * side**2


@pytest.mark.parametrize("family", ["cifar_resnet", "cifar_vgg", "efficientnet_lite", "resnet", "vit"])
def test_convolutions_count_by_kernel_and_image(family: str) -> None:
    adapter = adapters[family]
    graph = adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))
    table = LatencyTable.measure(graph, SETTING, convolution_timer)
    products = [spec for spec in graph.tensors.values() if len(spec.shape) > 1 and spec.flops]
    # Every convolution has as many operations as its kernel has entries, times the places of its image.
    assert table.latency(graph, {}) == pytest.approx(
        sum(1e-6 + 1e-9 * math.prod(spec.shape) * places(spec) for spec in products)
    )
    assert table.latency(graph, keep_most(graph, 0.5)) < 0.95 * table.latency(graph, {})


def places(spec: TensorSpec) -> float:
    return round(math.sqrt(spec.flops / 2)) ** 2 if len(spec.shape) == 4 else spec.flops / 2


def test_real_products_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunepolicy.pruning.measure.latency_table.POOL_BYTES", 1 << 16)
    timer = ProductTimer(SETTING, [Curve((256, 256), 0), Curve((32, 32), 0, (3, 3, 8))])
    assert 0 < timer(8, 8) < timer(256, 256) < 1
    assert 0 < timer(2, 2, 3, 3, 8) < timer(32, 32, 3, 3, 32) < 1
