"""What every kind of policy must hold, with its default settings, on a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from prunepolicy.policy.base import Instruments, Policy, policies
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph

KINDS = [kind for kind in policies if kind != "router"]
"""Those that prune; a router says how much a served model is to think."""
SETTINGS = {"heuristic": {"criterion": "fisher"}}  # the default can't rank across layers
BUDGETS = [Budget(0.8, "ffn"), Budget(0.7, "ffn", uniform=False), Budget(0.85), Budget(0.85, uniform=False)]


def policy_of(kind: str) -> Policy:
    """A policy of the kind as it is before anything was learned."""
    torch.manual_seed(1)
    make: Callable[..., Policy] = policies[kind]
    return make(policies[kind].config_type(**SETTINGS.get(kind, {})))


@cache
def graph_of() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": 128}
    return adapter.units(config, adapter.shapes(config))


def stats_of(graph: UnitGraph, shuffle: bool = False) -> Stats:
    """Every statistic with random values; the same ones, in another order of channels, when shuffled."""
    generator = torch.Generator().manual_seed(2)
    values: dict[str, dict[str, torch.Tensor]] = {}
    for group in graph.groups:
        order = order_of(group.size) if shuffle else torch.arange(group.size)
        for name in (
            "weight_l1",
            "weight_l2",
            "weight_linf",
            "member_square",
            "output",
            "rms",
            "max",
            "first_rms",
            "angular",
            "tokens",
        ):
            drawn = torch.rand(group.size, generator=generator) + 0.1
            values.setdefault(name, {})[group.name] = drawn[order]
        rows = torch.rand(group.size, 4, generator=generator)
        values.setdefault("rows", {})[group.name] = rows[order]
        gradients = torch.randn(8, group.size, generator=generator)
        values.setdefault("gradients", {})[group.name] = gradients[:, order]
    return Stats(values)


def order_of(size: int) -> torch.Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(size))


SHARED = {"repair": None, "samples": 64, "length": 128, "probe": "self"}
SEARCHED = {"shrinkage": 0.8, "steps": 1024}
SAVED = {
    "gates": {"criterion": "fisher_activation", "network": "", "units": {}},
    "graph": {
        "hidden": 48,
        "rounds": 2,
        "layer": "directed_mean",
        "units": [],
        "count_layers": False,
        "removal_rounds": 1,
    },
    "greedy": SEARCHED,
    "heuristic": {
        "criterion": "fisher_activation",
        "per_layer_criterion": None,
        "allocator": "global_rank",
        "rounds": 1,
        "token_criterion": None,
    },
    "metanet": {
        "head": "weights",
        "layers": 4,
        "hidden": 16,
        "step": 0.01,
        "layer": "two_way_product",
        "taps": [1, 9, 25, 49, 256],
        "criterion": "group_norm",
        "per_layer_criterion": None,
        "allocator": "global_score",
        "rounds": 1,
        "token_criterion": None,
    },
    "prunenet": {
        "scorer": "mlp",
        "selection": "top_k",
        "features": ["weights", "activations", "gradients"],
        "hidden": 64,
        "bound": 8.0,
        "shape": None,
    },
    "qubo": SEARCHED,
    "router": {
        "model": "",
        "control": "thinking_token_budget",
        "budgets": [0, 512, 2048, 8192],
        "price": "tokens",
        "weight": 0.0,
    },
    "text": {"scorer": "plain", "network": "", "numbers": {}},
}
"""What `policy.json` says of a policy with default settings. Policies are saved with these names: one that is
renamed, or whose default changes, breaks them; new ones need a default that does what was done before."""


@pytest.mark.parametrize("kind", SAVED)
def test_settings_are_saved_under_the_names_they_always_had(kind: str, tmp_path: Path) -> None:
    make: Callable[[], Policy] = policies[kind]
    make().save(tmp_path)
    saved = json.loads((tmp_path / "policy.json").read_text())
    assert saved["config"] == {**SAVED[kind], **SHARED}
    assert saved["kind"] == kind
    saved["config"] = {}
    (tmp_path / "policy.json").write_text(json.dumps(saved))
    assert load_policy(tmp_path).config == make().config


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_the_budget_is_met_from_below(kind: str, budget: Budget) -> None:
    graph = graph_of()
    if kind in ("prunenet", "text") and not budget.uniform:
        with pytest.raises(UsageError, match="equal widths"):
            policy_of(kind).plan(graph, stats_of(graph), budget)
        return
    plan = policy_of(kind).plan(graph, stats_of(graph), budget)
    plan.check(graph)
    assert budget.keep - 0.01 <= meter_for(graph, budget)(plan.keep) <= budget.keep + 1e-9
    assert not budget.uniform or plan.is_uniform(graph)


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_survives_its_files(kind: str, tmp_path: Path) -> None:
    graph, policy = graph_of(), policy_of(kind)
    policy.save(tmp_path)
    restored = load_policy(tmp_path)
    budget, stats = Budget(0.8, "ffn"), stats_of(graph)
    assert (restored.name, restored.config) == (policy.name, policy.config)
    assert restored.plan(graph, stats, budget).keep == policy.plan(graph, stats, budget).keep


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind != "qubo"]
)  # its annealing draws units by id
def test_choices_follow_their_units(kind: str) -> None:
    graph, policy, budget = graph_of(), policy_of(kind), Budget(0.75, "ffn")
    for parameter in policy.weights().values():
        torch.nn.init.normal_(parameter)  # Untrained scorers may give every unit one score.
    plain, shuffled = (policy.plan(graph, stats_of(graph, flag), budget).keep for flag in (False, True))
    for name, units in plain.items():
        order = order_of(graph[name].size)
        assert set(units) == {int(order[unit]) for unit in shuffled[name]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_outer_plan_removed_stays_gone(kind: str) -> None:
    graph, policy, stats = graph_of(), policy_of(kind), stats_of(graph_of())
    outer = Plan(
        {g.name: tuple(range(12, g.size)) for g in graph.of_kind("ffn")}, Budget(0.9, "ffn"), "outer"
    )
    plan = policy.plan(graph, stats, Budget(0.7, "ffn"), Instruments(within=outer))
    assert all(units[0] >= 12 for units in plan.keep.values())
