"""The graph policy: a heuristic before it has learned, its weights after, and nothing from bad files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from prunepolicy.policy.kinds.graph import Graph, GraphConfig
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.stats import Stats
from prunepolicy.pruning.units import UnitGraph


@pytest.fixture
def graph() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": 128}
    return adapter.units(config, adapter.shapes(config))


@pytest.fixture
def stats(graph: UnitGraph) -> Stats:
    gradients = {g.name: torch.randn(6, g.size) * torch.rand(g.size) for g in graph.groups}
    return Stats({"gradients": gradients, "output": {g.name: torch.rand(g.size) for g in graph.groups}})


@pytest.mark.parametrize(("uniform", "criterion"), [(True, "fisher_activation"), (False, "fisher")])
def test_untrained_it_is_the_best_heuristic(
    graph: UnitGraph, stats: Stats, uniform: bool, criterion: str
) -> None:
    budget = Budget(0.75, "ffn", uniform=uniform)
    heuristic = Heuristic(HeuristicConfig(criterion=criterion))
    assert Graph().plan(graph, stats, budget).keep == heuristic.plan(graph, stats, budget).keep


def test_it_mixes_layers_and_channels_where_the_budget_leaves_it_free(graph: UnitGraph, stats: Stats) -> None:
    policy = Graph(GraphConfig(units=("ffn", "layers")))
    stats.values["gradients"]["layers"][:] = 1e-3
    free = Budget(0.6, "params")
    assert len(policy.plan(graph, stats, free).keep["layers"]) < graph["layers"].size
    assert "layers" not in Graph().plan(graph, stats, Budget(0.8, "params")).keep
    assert "layers" not in policy.plan(graph, stats, Budget(0.5, "ffn")).keep


def test_what_it_learned_changes_its_plans(graph: UnitGraph, stats: Stats) -> None:
    policy, budget = Graph(), Budget(0.75, "ffn", uniform=False)
    before = policy.plan(graph, stats, budget).keep
    for parameter in policy.network.parameters():
        torch.nn.init.normal_(parameter)
    assert policy.plan(graph, stats, budget).keep != before


def test_it_is_small(tmp_path: Path) -> None:
    Graph().save(tmp_path)
    assert (tmp_path / "weights.safetensors").stat().st_size < 300_000


def test_weights_that_changed_or_are_no_numbers_are_refused(tmp_path: Path) -> None:
    Graph(GraphConfig(hidden=4)).save(tmp_path)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(PrunePolicyError, match="SHA-256"):
        load_policy(tmp_path)
    broken = Graph(GraphConfig(hidden=4))
    broken.network.decide[0].weight.data[0, 0] = torch.nan
    broken.save(tmp_path)
    with pytest.raises(PrunePolicyError, match="NaN"):
        load_policy(tmp_path)


def test_a_network_of_another_width_is_refused(tmp_path: Path) -> None:
    Graph(GraphConfig(hidden=4)).save(tmp_path)
    file = tmp_path / "policy.json"
    data = json.loads(file.read_text())
    data["config"]["hidden"] = 8
    file.write_text(json.dumps(data))
    with pytest.raises(PrunePolicyError, match="doesn't hold the tensors"):
        load_policy(tmp_path)
