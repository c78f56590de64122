"""The surrogate against the quadratic form written out, and rank correlation against known values."""

from __future__ import annotations

import pytest
import torch

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.surrogate import Removal, Surrogate, rank_correlation
from prunepolicy.pruning.units import UnitGraph


@pytest.fixture
def graph() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    return adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))


@pytest.fixture
def stats(graph: UnitGraph) -> Stats:
    return Stats({"gradients": {group.name: torch.randn(6, group.size) for group in graph.groups}})


def written_out(surrogate: Surrogate, gone: torch.Tensor) -> float:
    """The quadratic form with its full matrix."""
    rows, r = surrogate.gradients.double(), gone.double()
    matrix = rows @ rows.T / surrogate.samples
    shrunk = (1 - surrogate.shrinkage) * matrix + surrogate.shrinkage * matrix.diag().diag()
    linear = -(rows.mean(1) @ r) if surrogate.first_order else 0.0
    return float(r @ shrunk @ r / 2 + linear)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("shrinkage", [0.0, 0.4, 1.0])
def test_it_is_the_quadratic_form_however_the_choice_came_about(
    graph: UnitGraph, stats: Stats, first_order: bool, shrinkage: float
) -> None:
    surrogate = Surrogate.of(graph, graph.of_kind("ffn"), stats, first_order, shrinkage)
    units = len(surrogate.gradients)
    removal = Removal(surrogate, torch.rand(units) < 0.3)
    for _ in range(20):
        moved = torch.randperm(units)[:5]
        for unit in moved[:2]:
            predicted = removal.rise + float(removal.marginal()[unit])
            removal.flip(unit[None])
            assert removal.rise == pytest.approx(predicted, rel=1e-4, abs=1e-5)
        removal.flip(moved)
    assert removal.rise == pytest.approx(written_out(surrogate, removal.mask), rel=1e-4, abs=1e-5)


def test_without_couplings_it_is_the_fisher_criterion(graph: UnitGraph, stats: Stats) -> None:
    groups = graph.of_kind("ffn")
    surrogate = Surrogate.of(graph, groups, stats, shrinkage=1.0)
    keep = {group.name: tuple(range(3, group.size)) for group in groups}
    fisher = criteria["fisher"](graph, groups, stats)
    expected = sum(float(score[:3].sum()) for score in fisher.values())
    assert surrogate.rise(keep) == pytest.approx(expected, rel=1e-5)


def test_units_that_make_up_for_each_other_cost_nothing_together(graph: UnitGraph) -> None:
    group = graph.of_kind("ffn")[0]
    gradients = torch.zeros(4, group.size)
    gradients[:, 0], gradients[:, 1] = torch.ones(4), -torch.ones(4)
    surrogate = Surrogate.of(graph, (group,), Stats({"gradients": {group.name: gradients}}))
    assert surrogate.rise({group.name: tuple(range(1, group.size))}) == pytest.approx(0.5)
    assert surrogate.rise({group.name: tuple(range(2, group.size))}) == pytest.approx(0)


def test_a_layer_that_goes_is_not_counted_again_with_its_channels(graph: UnitGraph, stats: Stats) -> None:
    surrogate = Surrogate.of(graph, graph.groups, stats)
    layer = {"layers": tuple(range(1, graph["layers"].size))}
    both = {**layer, "layers.0.ffn": (0,)}
    assert surrogate.rise(both) == surrogate.rise(layer) > 0
    assert surrogate.rise({**both, "layers.1.ffn": (0,)}) != surrogate.rise(layer)


def test_useless_gradients_and_shares_are_refused(graph: UnitGraph, stats: Stats) -> None:
    with pytest.raises(PrunePolicyError, match="between 0 and 1"):
        Surrogate.of(graph, graph.groups, stats, shrinkage=1.5)
    stats.values["gradients"]["layers.0.ffn"][0, 0] = torch.nan
    with pytest.raises(PrunePolicyError, match="NaN"):
        Surrogate.of(graph, graph.groups, stats)


def test_rank_correlation_on_known_orders() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]).tau == 1
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]).tau == -1
    # One discordant pair of six.
    assert rank_correlation([1, 2, 3, 4], [1, 2, 4, 3]).tau == pytest.approx(4 / 6)
    with pytest.raises(PrunePolicyError, match="no order"):
        rank_correlation([1, 1, 1], [1, 2, 3])
    with pytest.raises(PrunePolicyError, match="three or more"):
        rank_correlation([1, 2], [1, 2])


def test_rank_correlation_matches_scipy_where_there_are_ties() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    first = torch.randint(0, 8, (40,)).tolist()
    second = [a + b for a, b in zip(first, torch.randint(0, 9, (40,)).tolist(), strict=True)]
    expected = scipy_stats.kendalltau(first, second, method="asymptotic")
    found = rank_correlation(first, second)
    assert (found.tau, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))


def test_rank_correlation_within_sizes_ignores_what_sizes_say() -> None:
    sizes, noise = [0.9] * 4 + [0.7] * 4, [1, 2, 3, 4, 11, 12, 13, 14]
    measured = [4, 3, 2, 1, 14, 13, 12, 11]
    assert rank_correlation(noise, measured).tau > 0
    assert rank_correlation(noise, measured, sizes).tau == -1
    assert rank_correlation(noise, noise, sizes).tau == 1
    whole, within = rank_correlation(noise, noise), rank_correlation(noise, noise, sizes)
    assert whole.p_value < within.p_value
    same = rank_correlation(noise, measured, [0.8] * 8)
    assert same == rank_correlation(noise, measured)
    with pytest.raises(PrunePolicyError, match="three or more"):
        rank_correlation(noise, measured, [*sizes[:-1], 0.5])
