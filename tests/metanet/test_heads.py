from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunepolicy.metanet.weight_network.blueprint import Blueprint
from prunepolicy.metanet.weight_network.heads import VALUE, DecisionHead, UnitHead, unit_states, with_channels
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork
from prunepolicy.metanet.weight_network.weight_graph import WeightGraph
from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.units import UnitGraph

Build = Callable[..., tuple[WeightGraph, dict[str, Tensor], nn.Module]]
HIDDEN = 6


def units_of(family: str) -> UnitGraph:
    adapter = adapters[family]
    return adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))


def described(build: Build, family: str) -> tuple[Blueprint, Tensor]:
    graph, _, _ = build(family)
    return Blueprint(graph, units_of(family)), torch.randn(graph.size, HIDDEN)


def test_a_unit_is_read_where_its_weights_write(build: Build) -> None:
    network, _ = described(build, "llama")
    graph, units = network.graph, network.units
    states = torch.arange(graph.size, dtype=torch.float32)[:, None]
    starts = {nodes.name.removeprefix("model."): nodes.start for nodes in graph.node_sets}
    channels = unit_states(network, units["layers.1.ffn"], states).squeeze(1)
    middle = (starts["layers.1.mlp.gate_proj"] + starts["layers.1.mlp.up_proj"]) / 2
    assert torch.equal(channels, middle + torch.arange(48))
    heads = unit_states(network, units["layers.1.kv_heads"], states).squeeze(1)
    attention = [starts[f"layers.1.self_attn.{name}_proj"] for name in "qkv"]
    first = [*range(attention[0], attention[0] + 16), *range(attention[1], attention[1] + 8)]
    first += range(attention[2], attention[2] + 8)
    assert heads[0] == pytest.approx(sum(first) / len(first))


def test_whole_layers_have_no_channels_to_read(build: Build) -> None:
    network, states = described(build, "llama")
    layers = network.units["layers"]
    with pytest.raises(UnsupportedModelError, match="layers has no channels"):
        unit_states(network, layers, states)
    assert {group.kind for group in with_channels(network)} == {"ffn", "kv_head", "query_head"}


@pytest.mark.parametrize("family", ["cifar_resnet", "llama"])
def test_untrained_heads_say_nothing(build: Build, family: str) -> None:
    network, states = described(build, family)
    groups = with_channels(network)
    output, decided = UnitHead(HIDDEN)(network, groups, states), DecisionHead(HIDDEN)(network, groups, states)
    for group in groups:
        assert torch.equal(output[group.name], torch.zeros(group.size))
        assert torch.equal(decided[group.name], torch.zeros(group.size))
    assert decided[VALUE] == 0
    assert len(decided) == len(groups) + 1


def test_decisions_are_about_groups_and_bounded(build: Build) -> None:
    network, states = described(build, "cifar_resnet")
    head, groups = DecisionHead(HIDDEN), with_channels(network)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.7)
    decided = head(network, groups, states)
    assert all(decided[group.name].unique().numel() == 1 for group in groups)
    ratios = torch.stack([decided[group.name][0] for group in groups])
    assert ratios.unique().numel() > 2
    assert bool((ratios.abs() <= 2).all())


def test_heads_learn_together_with_what_they_read(build: Build, learned: Callable[..., Metanetwork]) -> None:
    graph, weights, _ = build("cifar_resnet")
    metanetwork, head = learned(), UnitHead(HIDDEN).double()
    network = Blueprint(graph, units_of("cifar_resnet"))
    optimiser = torch.optim.Adam([*metanetwork.parameters(), *head.parameters()], 0.02)
    losses: list[Any] = []
    for _ in range(12):
        values = head(network, network.units.groups, metanetwork.node_states(graph, weights))
        loss = sum((value - torch.linspace(0, 1, len(value))).square().mean() for value in values.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
