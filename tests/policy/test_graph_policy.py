"""The graph policy: a heuristic before it has learned, its weights after, and nothing from bad files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunepolicy.envs.prune_case import invented_case
from prunepolicy.envs.prune_env import PruneEnv
from prunepolicy.metanet.group_network.graph import DECISIONS
from prunepolicy.policy.base import Instruments
from prunepolicy.policy.kinds.graph import Graph, GraphConfig
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.planning import plan_for
from prunepolicy.policy.sb3 import group_graph
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import Keep, UnitGraph

BUDGETS = [
    Budget(0.7, "ffn", multiple_of=1),
    Budget(0.7, "ffn", uniform=False, multiple_of=1),
    Budget(0.75, units=("ffn", "layers"), multiple_of=1),
    Budget(0.8, units=("ffn", "heads", "layers"), uniform=False, multiple_of=1),
]


@pytest.fixture
def graph() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": 128}
    return adapter.units(config, adapter.shapes(config))


@pytest.fixture
def stats(graph: UnitGraph) -> Stats:
    return random_stats(graph)


def random_stats(graph: UnitGraph) -> Stats:
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


def test_it_decides_how_many_layers_go() -> None:
    policy = Graph(GraphConfig(units=("ffn", "layers"), count_layers=True))
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": 128, "num_hidden_layers": 12}
    graph = adapter.units(config, adapter.shapes(config))
    stats = random_stats(graph)
    budget, layers = Budget(0.5, "params"), graph["layers"].size
    assert policy.needs(graph, budget) == {"activations", "gradients", "drops"}
    assert "drops" not in policy.needs(graph, Budget(0.5, "ffn"))
    measured = stats.merged(Stats({"drops": {"layers": torch.arange(layers).flip(0).float() + 1}}))
    counts = []
    for decision in (-1.0, 0.0, 1.0):
        last: Any = policy.network.decide[-1]
        last.bias.data[DECISIONS.index("ratio")] = 5 * decision
        keep = policy.plan(graph, measured, budget).keep
        kept = keep.get("layers", tuple(range(layers)))
        assert kept == tuple(range(len(kept))), "what matters most stays"
        assert meter_for(graph, budget)(keep) == pytest.approx(0.5, abs=0.01)
        counts.append(len(kept))
    assert counts[0] == layers
    assert counts[0] > counts[1] > counts[2]


def test_what_it_learned_changes_its_plans(graph: UnitGraph, stats: Stats) -> None:
    policy, budget = Graph(), Budget(0.75, "ffn", uniform=False)
    before = policy.plan(graph, stats, budget).keep
    for parameter in policy.network.parameters():
        torch.nn.init.normal_(parameter)
    assert policy.plan(graph, stats, budget).keep != before


def opinionated(config: GraphConfig | None = None) -> Graph:
    """A policy whose decisions are far from zero."""
    policy, generator = Graph(config), torch.Generator().manual_seed(4)
    for parameter in policy.network.parameters():
        parameter.data.normal_(std=0.4, generator=generator)
    return policy


def refreshed(graph: UnitGraph, keep: Keep) -> Stats:
    """Statistics that depend on how much has gone."""
    gone = sum(graph[name].size - len(units) for name, units in keep.items())
    return invented_case(gone, widths=128, layers=4).stats


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_an_episode_ends_with_what_the_policy_plans(budget: Budget, rounds: int) -> None:
    """From the observation, padded for a larger network, to decisions and to what stays."""
    case = replace(invented_case(widths=128, layers=4), budget=budget)
    graph = case.graph
    case = replace(case, refresh=lambda keep: refreshed(graph, keep))
    env = PruneEnv([case, replace(invented_case(layers=6), refresh=case.refresh)], step="all", rounds=rounds)
    policy, done = opinionated(), False
    seen, _ = env.reset(seed=0, options={"network": 0, "keep": budget.keep})
    while not done:
        batch = {name: torch.as_tensor(values)[None] for name, values in seen.items()}
        decisions = policy.network(group_graph(batch)).decisions.detach().flatten()
        assert decisions.abs().mean() > 0.1
        action = np.zeros(env.action_space.shape, np.float32)
        action[: len(decisions)] = decisions.numpy()
        seen, _, done, *_ = env.step(action)
    again = Instruments(refresh=lambda plan: refreshed(graph, plan.keep))
    planned = policy.in_rounds(rounds).plan(graph, case.stats, budget, again)
    assert env.plan().keep == planned.keep
    assert planned.budget == budget
    assert planned.keep != Graph().in_rounds(rounds).plan(graph, case.stats, budget, again).keep


def turned(stats: Stats) -> Stats:
    """Statistics under which what was worst is best."""
    return Stats({name: {g: v.flip(-1) for g, v in groups.items()} for name, groups in stats.values.items()})


def test_units_that_went_in_one_round_may_come_back_in_the_next(graph: UnitGraph, stats: Stats) -> None:
    first: list[Plan] = []

    def refresh(plan: Plan) -> Stats:
        first.append(plan)
        return turned(stats)

    policy, budget = Graph().in_rounds(2), Budget(0.5, "ffn")
    plan = policy.plan(graph, stats, budget, Instruments(refresh=refresh))
    assert len(first) == 1
    for group in graph.of_kind("ffn"):
        assert set(plan.kept(group)) - set(first[0].kept(group))
    assert meter_for(graph, budget)(first[0].keep) == pytest.approx(0.5**0.5, abs=0.01)


def test_what_an_outer_plan_removed_never_comes_back(graph: UnitGraph, stats: Stats) -> None:
    outer = Graph().plan(graph, stats, Budget(0.75, "ffn"))
    again = Instruments(refresh=lambda plan: turned(stats), within=outer)
    inner = Graph().in_rounds(3).plan(graph, stats, Budget(0.5, "ffn"), again)
    assert all(set(inner.keep[name]) < set(outer.keep[name]) for name in outer.keep)


def test_rounds_are_saved_with_what_was_learned(tmp_path: Path) -> None:
    policy = opinionated(GraphConfig(hidden=4))
    policy.in_rounds(3).save(tmp_path)
    restored = load_policy(tmp_path)
    assert restored.config == GraphConfig(hidden=4, removal_rounds=3)
    assert policy.config.removal_rounds == 1
    assert all(torch.equal(values, policy.weights()[name]) for name, values in restored.weights().items())


def test_senseless_rounds_are_refused() -> None:
    with pytest.raises(UsageError, match="between 1 and 64; got 65"):
        Graph(GraphConfig(hidden=4)).in_rounds(65)


@pytest.mark.parametrize("budget", [Budget(0.75, "ffn"), Budget(0.7, units=("ffn", "layers"))], ids=str)
def test_a_real_network_is_measured_anew(
    budget: Budget, tiny_checkpoint: Callable[..., Checkpoint], byte_tokenizer: Any
) -> None:
    checkpoint = tiny_checkpoint("llama", vocab_size=258, intermediate_size=64, num_hidden_layers=3)
    byte_tokenizer.save_pretrained(checkpoint.folder)
    session = ModelSession("tiny", checkpoint, Hardware("cpu", "float32"))
    plan = plan_for(session, opinionated().in_rounds(3), budget, Probe(samples=4, length=16))
    plan.check(checkpoint.graph)
    used = meter_for(checkpoint.graph, budget)(plan.keep)
    assert budget.keep - 0.01 <= used <= budget.keep + 1e-9


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
