"""What a policy sees of a network: nothing of order, width or scale."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from prunepolicy.metanet.group_network.graph import (
    DECISIONS,
    GROUP_FEATURES,
    KINDS,
    UNIT_FEATURES,
    GroupGraph,
    network_graph,
)
from prunepolicy.metanet.group_network.network import GraphNetwork
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph

BUDGET = Budget(0.7, "ffn", uniform=False)


def graph_of(model_type: str = "llama") -> UnitGraph:
    adapter = adapter_for({"model_type": model_type})
    graph = adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))
    return replace(graph, groups=graph.of_kind(*KINDS))  # tokens have no place in it


def stats_of(graph: UnitGraph, scale: float = 1.0) -> Stats:
    generator = torch.Generator().manual_seed(0)
    drawn = {
        g.name: torch.randn(6, g.size, generator=generator) * torch.rand(g.size, generator=generator) * scale
        for g in graph.groups
    }
    output = {g.name: torch.rand(g.size, generator=generator) * scale for g in graph.groups}
    return Stats({"gradients": drawn, "output": output})


@pytest.fixture
def network() -> GraphNetwork:
    network = GraphNetwork(8, 2, "directed_mean")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def test_tokens_are_refused_in_a_sentence() -> None:
    adapter = adapter_for({"model_type": "llama"})
    graph = adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))
    with pytest.raises(UnsupportedModelError, match="knows no units of the kind vocabulary"):
        network_graph(graph, graph.of_kind("vocabulary"), Stats(), BUDGET)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral", "cifar_resnet"])
def test_every_family_has_finite_features(model_type: str, network: GraphNetwork) -> None:
    graph = graph_of(model_type)
    described = network_graph(graph, graph.groups, stats_of(graph), BUDGET)
    assert described.units.shape == (sum(g.size for g in graph.groups), len(UNIT_FEATURES))
    assert described.groups.shape == (len(graph.groups), len(GROUP_FEATURES))
    assert (described.groups[:, : len(KINDS)].sum(1) == 1).all()
    judgement = network(described.nodes)
    scores = described.scores(judgement.decisions, 0.7)
    for tensor in (described.units, described.groups, *vars(judgement).values(), *scores.values()):
        assert torch.isfinite(tensor).all()
    assert judgement.decisions.shape == (len(graph.groups), len(DECISIONS))
    assert judgement.decisions.abs().max() <= 1


def test_scores_follow_units_in_another_order(network: GraphNetwork) -> None:
    graph, order = graph_of(), {}
    stats = stats_of(graph)
    for group in graph.groups:
        order[group.name] = torch.randperm(group.size)
    moved = Stats({s: {n: v[..., order[n]] for n, v in values.items()} for s, values in stats.values.items()})
    plain, shuffled = (network_graph(graph, graph.groups, some, BUDGET) for some in (stats, moved))
    decisions = network(plain.nodes).decisions
    torch.testing.assert_close(decisions, network(shuffled.nodes).decisions, rtol=1e-4, atol=1e-5)
    before, after = plain.scores(decisions, 0.7), shuffled.scores(decisions, 0.7)
    for name, scores in before.items():
        torch.testing.assert_close(after[name], scores[order[name]], rtol=1e-4, atol=1e-9)


def test_the_scale_of_the_statistics_does_not_show() -> None:
    graph = graph_of()
    small, large = (network_graph(graph, graph.groups, stats_of(graph, s), BUDGET) for s in (1.0, 1000.0))
    torch.testing.assert_close(small.units, large.units, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(small.groups, large.groups, rtol=1e-3, atol=1e-4)


def test_messages_pass_through_groups_that_may_not_be_pruned() -> None:
    graph = graph_of()
    ffn = graph.of_kind("ffn")
    described = network_graph(graph, ffn, stats_of(graph), BUDGET)
    forwards = described.edges[:, described.edge_features[:, 0] == 1].T.tolist()
    assert forwards == [list(pair) for pair in pairwise(range(len(ffn)))]


def test_a_change_reaches_groups_further_down(network: GraphNetwork) -> None:
    graph, stats = graph_of(), stats_of(graph_of())
    ffn = graph.of_kind("ffn")
    described = network_graph(graph, ffn, stats, BUDGET)
    before = network(described.nodes).decisions.detach().clone()
    described.groups[0, len(KINDS)] += 1
    assert not torch.equal(network(described.nodes).decisions[1], before[1])


def test_networks_of_a_batch_do_not_hear_each_other(network: GraphNetwork) -> None:
    both = [network_graph(g, g.of_kind("ffn"), stats_of(g), BUDGET) for g in (graph_of(), graph_of("gpt2"))]
    first, second = (described.nodes for described in both)
    count = len(first.groups)
    batch = GroupGraph(
        torch.cat([first.groups, second.groups]),
        torch.cat([first.edges, second.edges + count], dim=1),
        torch.cat([first.edge_features, second.edge_features]),
        torch.cat([first.globals, second.globals]),
        torch.cat([first.network, second.network + 1]),
    )
    together = network(batch)
    torch.testing.assert_close(together.decisions[:count], network(first).decisions)
    torch.testing.assert_close(together.decisions[count:], network(second).decisions)
    torch.testing.assert_close(together.value[1:], network(second).value)


def test_an_untrained_network_adds_nothing() -> None:
    graph = graph_of()
    described = network_graph(graph, graph.groups, stats_of(graph), BUDGET)
    assert not GraphNetwork(8, 1, "directed_mean")(described.nodes).decisions.any()


def test_the_prior_orders_units_within_groups_and_sums_to_fisher_between_them() -> None:
    graph, stats = graph_of(), stats_of(graph_of())
    groups = graph.of_kind("ffn")
    described = network_graph(graph, groups, stats, Budget(0.7, "ffn"))
    scores = described.scores(torch.zeros(len(groups), len(DECISIONS)), 0.7)
    for group in groups:
        fisher = stats.get("gradients", group.name).square().mean(0)
        order = fisher.sqrt() * stats.get("output", group.name)
        assert torch.equal(scores[group.name].argsort(), order.argsort())
        torch.testing.assert_close(scores[group.name].sum().float(), fisher.sum(), rtol=1e-4, atol=1e-6)


def test_a_ratio_lifts_a_whole_group_and_an_emphasis_reorders_it() -> None:
    graph = graph_of()
    groups = graph.of_kind("ffn")
    described = network_graph(graph, groups, stats_of(graph), BUDGET)
    nothing = torch.zeros(len(groups), len(DECISIONS))
    plain, lifted, turned = described.scores(nothing, 0.7), nothing.clone(), nothing.clone()
    lifted[0, DECISIONS.index("ratio")] = 1
    turned[0, DECISIONS.index("taylor: z-score")] = 1
    first, second = groups[0].name, groups[1].name
    higher, other = described.scores(lifted, 0.7), described.scores(turned, 0.7)
    assert torch.equal(higher[first].argsort(), plain[first].argsort())
    assert (higher[first] > plain[first]).all()
    assert not torch.equal(other[first].argsort(), plain[first].argsort())
    assert torch.equal(higher[second], plain[second])
    assert torch.equal(other[second], plain[second])
