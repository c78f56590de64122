"""What every allocator must hold: budgets from below, floors, nesting, alignment."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.allocators import Task, allocate, allocators
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.errors import BudgetError, PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import group_costs
from prunepolicy.pruning.units import UnitGraph

NAMES = list(allocators)
MODELS = ["llama", "gpt2", "phi3", "cifar_resnet", "vit"]


@cache
def graph_of(model_type: str) -> UnitGraph:
    """A network wide enough for budgets to be met within 1 %."""
    adapter = adapter_for({"model_type": model_type})
    wider = {"llama": {"intermediate_size": 512}, "gpt2": {"n_inner": 256}}.get(model_type, {})
    config = {**adapter.tiny(), **wider}
    return adapter.units(config, adapter.shapes(config))


def task_for(graph: UnitGraph, budget: Budget, seed: int = 0) -> Task:
    generator = torch.Generator().manual_seed(seed)
    groups = tuple(g for g in graph.groups if g.kind in (budget.kinds or ("ffn", "channel")))
    scores = {group.name: torch.rand(group.size, generator=generator) for group in groups}
    return Task(graph, groups, scores, budget, meter_for(graph, budget), comparable=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model_type", MODELS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(keep=st.floats(0.55, 0.98), of=st.sampled_from(["params", "flops", "memory"]), seed=st.integers(0, 99))
def test_budget_is_met_from_below(name: str, model_type: str, keep: float, of: str, seed: int) -> None:
    budget = Budget(keep, of)  # type: ignore[arg-type]
    task = task_for(graph_of(model_type), budget, seed)
    chosen = met_or_asked_again(name, task)
    Plan(chosen, task.budget, "test").check(task.graph)
    assert task.meter(chosen) <= max(keep, least_named(name, task)) + 1e-9
    assert all(len(chosen[g.name]) >= g.floor for g in task.groups)


def least_named(name: str, task: Task) -> float:
    """The share that a refusal says can be asked for; 0 where nothing is refused."""
    try:
        allocate(name, task)
    except BudgetError as refusal:
        return float(re.findall(r"keep (\d\.\d{4})\. Ask", str(refusal))[0])
    return 0.0


def met_or_asked_again(name: str, task: Task) -> dict[str, tuple[int, ...]]:
    """Allocate; after a refusal, ask for the share that it names, which has to be one."""
    named = least_named(name, task)
    if not named:
        return allocate(name, task)
    assert named > task.budget.keep
    return allocate(name, replace(task, budget=replace(task.budget, keep=named)))


@pytest.mark.parametrize("name", NAMES)
def test_less_budget_keeps_a_subset(name: str) -> None:
    graph = graph_of("llama")
    kept = [allocate(name, task_for(graph, Budget(keep, "ffn"))) for keep in (0.9, 0.75, 0.6)]
    for larger, smaller in pairwise(kept):
        assert all(set(smaller[group]) <= set(larger[group]) for group in larger)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_units_of_a_group_stay(name: str) -> None:
    task = task_for(graph_of("llama"), Budget(0.7, "ffn"))
    for group, units in allocate(name, task).items():
        scores = task.scores[group]
        gone = torch.ones(len(scores), dtype=torch.bool)
        gone[list(units)] = False
        assert not gone.any() or scores[list(units)].min() >= scores[gone].max()


@pytest.mark.parametrize("name", NAMES)
def test_units_that_are_gone_stay_gone(name: str) -> None:
    task = task_for(graph_of("llama"), Budget(0.6, "ffn"))
    scores = {group: score.clone() for group, score in task.scores.items()}
    for score in scores.values():
        score[:100] = -torch.inf
    kept = allocate(name, replace(task, scores=scores))
    assert all(units[0] >= 100 for units in kept.values())


def test_uniform_keeps_equal_counts_and_the_widest_alignment_that_fits() -> None:
    graph = graph_of("llama")
    kept = allocate("uniform", task_for(graph, Budget(0.75, "ffn")))
    assert {len(units) for units in kept.values()} == {384}
    assert Plan(kept, Budget(0.75, "ffn"), "test").is_uniform(graph)


def test_a_width_multiple_that_was_asked_for_is_kept() -> None:
    kept = allocate("uniform", task_for(graph_of("llama"), Budget(0.5, "ffn", multiple_of=256)))
    assert {len(units) for units in kept.values()} == {256}
    kept = allocate("uniform", task_for(graph_of("llama"), Budget(0.7, "ffn", multiple_of=256)))
    assert {len(units) for units in kept.values()} == {256}
    with pytest.raises(BudgetError, match=r"the least that can is keep 0\.5000"):
        allocate("uniform", task_for(graph_of("llama"), Budget(0.4, "ffn", multiple_of=256)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("layers", "keep"), [(16, 0.8), (28, 0.8), (32, 0.5), (36, 0.97)])
def test_shares_of_layers_are_rounded_down(name: str, layers: int, keep: float) -> None:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "num_hidden_layers": layers}
    task = task_for(adapter.units(config, adapter.shapes(config)), Budget(keep, "layers"))
    assert len(allocate(name, task)["layers"]) == int(keep * layers)


@pytest.mark.parametrize("comparable", [True, False])
@pytest.mark.parametrize("keep", [0.8, 0.72, 0.3])
def test_heads_of_two_kinds_come_as_near_as_their_counts_allow(keep: float, comparable: bool) -> None:
    adapter = adapter_for({"model_type": "llama"})
    sizes = {"hidden_size": 96, "num_attention_heads": 24, "num_key_value_heads": 6, "head_dim": 4}
    config = {**adapter.tiny(), **sizes}
    task = task_for(adapter.units(config, adapter.shapes(config)), Budget(keep, "heads"))
    counts = [kv * query for kv in range(1, 7) for query in range(1, 5)]
    reachable = [count / 24 for count in counts if 96 % count == 0]
    used = task.meter(allocate("uniform", replace(task, comparable=comparable)))
    assert used == pytest.approx(max(share for share in reachable if share <= keep))


def test_global_rank_spends_where_scores_are_high() -> None:
    graph = graph_of("llama")
    task = task_for(graph, Budget(0.6, "ffn"))
    scores = {name: score + 10 * ("layers.1" in name) for name, score in task.scores.items()}
    kept = allocate("global_rank", replace(task, scores=scores))
    assert len(kept["layers.1.ffn"]) == 512
    assert len(kept["layers.0.ffn"]) < 512


def test_a_budget_of_operations_takes_what_costs_operations() -> None:
    """Units of linear layers own many parameters that are used once; those of convolutions are used often."""
    adapter = adapter_for({"model_type": "cifar_cnn"})
    config = adapter.tiny()
    graph = adapter.units(config, adapter.shapes(config))
    task = task_for(graph, Budget(0.7, "flops", uniform=False, multiple_of=1))
    kept = allocators["global_rank"](task, 1)
    shares = {group.name: len(kept[group.name]) / group.size for group in graph.groups}
    assert shares.pop("classifier.0") == shares.pop("classifier.3") == 1
    assert min(shares.values()) < 0.7


def test_a_layer_too_large_for_the_budget_stays_and_channels_go_instead() -> None:
    """The cheapest unit is a layer, and a layer is worth more than the budget lets go."""
    graph = graph_of("llama")
    budget = Budget(0.93, "params", uniform=False, units=("ffn", "layers"))
    task = task_for(graph, budget)
    scores = {name: score * (1e-6 if name == "layers" else 1.0) for name, score in task.scores.items()}
    kept = allocate("global_rank", replace(task, scores=scores))
    assert len(kept["layers"]) == graph["layers"].size
    assert task.meter(kept) == pytest.approx(0.93, abs=0.01)


@pytest.mark.parametrize("seed", [7, 45, 79])
def test_heads_too_large_for_the_budget_stay_and_channels_go_instead(seed: int) -> None:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": 128}
    task = task_for(adapter.units(config, adapter.shapes(config)), Budget(0.8, units=("ffn", "heads")), seed)
    priced = {g.name: task.scores[g.name] * group_costs(task.graph, g) for g in task.groups}
    assert 0.79 <= task.meter(allocate("global_rank", replace(task, scores=priced))) <= 0.8


def test_global_rank_refuses_scores_that_cannot_be_compared() -> None:
    task = replace(task_for(graph_of("llama"), Budget(0.6, "ffn")), comparable=False)
    with pytest.raises(UsageError, match="can't be compared"):
        allocate("global_rank", task)


def test_uniform_mixes_kinds_by_the_scores_they_remove() -> None:
    """Worthless heads go before good channels, and the other way round."""
    graph = graph_of("llama")
    budget = Budget(0.8, "params", units=("ffn", "heads"))
    task = task_for(graph, budget)
    heads = {g.name for g in graph.of_kind("kv_head", "query_head")}
    cheap_heads = {n: s * (1e-6 if n in heads else 1.0) for n, s in task.scores.items()}
    kept = allocate("uniform", replace(task, scores=cheap_heads))
    assert any(len(kept[name]) < graph[name].size for name in heads)
    dear_heads = {n: s * (1e6 if n in heads else 1.0) for n, s in task.scores.items()}
    kept = allocate("uniform", replace(task, scores=dear_heads))
    assert all(len(kept[name]) == graph[name].size for name in heads)


def test_only_head_counts_that_the_configuration_accepts_are_chosen() -> None:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8}
    graph = adapter.units(config, adapter.shapes(config))
    kept = allocate("uniform", task_for(graph, Budget(0.5, "heads")))
    assert {len(units) for units in kept.values()} == {4}
    kept = allocate("uniform", task_for(graph, Budget(0.75, "heads")))
    assert {len(units) for units in kept.values()} == {4}
    six = {group.name: tuple(range(6)) for group in graph.of_kind("kv_head")}
    with pytest.raises(PrunePolicyError, match="doesn't divide 64"):
        Plan(six, Budget(0.75, "heads"), "test").check(graph)


@pytest.mark.parametrize(
    ("model_type", "of", "advice"),
    [
        ("llama", "params", ", or let more kinds of unit go (--units ffn,heads,layers,vocabulary)"),
        ("cifar_resnet", "params", ""),
        ("llama", "ffn", ""),
    ],
)
def test_a_refusal_proposes_only_units_that_the_network_has_beside(
    model_type: str, of: str, advice: str
) -> None:
    budget = Budget(0.1, of, multiple_of=10_000)  # type: ignore[arg-type]
    with pytest.raises(BudgetError) as refusal:
        allocate("uniform", task_for(graph_of(model_type), budget))
    assert str(refusal.value).endswith(f"Ask for that{advice}.")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("keep", "stays"), [(0.99, 8), (0.8, 8), (0.5, 5), (0.2, 2)])
def test_layers_that_take_turns_go_with_their_neighbours(name: str, keep: float, stays: int) -> None:
    adapter = adapter_for({"model_type": "gemma"})
    types = 3 * ["sliding_attention", "sliding_attention", "full_attention"] + 3 * ["sliding_attention"]
    config = {
        **adapter.tiny(),
        "model_type": "gemma3_text",
        "num_hidden_layers": 11,
        "layer_types": types[:11],
    }
    graph = adapter.units(config, adapter.shapes(config))
    layers = graph["layers"]
    assert layers.period == 3
    scores = torch.arange(11.0).flip(0)
    scores[4] = -20  # The worst layer takes its neighbours along; the two at the end never go.
    budget = Budget(keep, "layers")
    task = Task(graph, (layers,), {"layers": scores}, budget, meter_for(graph, budget), comparable=True)
    kept = allocate(name, task)["layers"]
    assert len(kept) == stays
    assert not {3, 4, 5} & set(kept)
    assert {9, 10} <= set(kept)
    assert layers.keeps_turns(kept)
    assert not layers.keeps_turns([0, 2, 3])
