from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from prunepolicy.metanet.weight_network.weight_graph import Block, WeightGraph, trace, weight_graph_of
from prunepolicy.metanet.weight_network.weight_graph.bundles import bundle_plan
from prunepolicy.pruning.adapters import adapters

from .conftest import COINCIDENT, ODD, randomise, tensors_of

Build = Callable[..., tuple[WeightGraph, dict[str, Tensor], nn.Module]]
CPU = torch.device("cpu")
CASES: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in adapters),
    ("cifar_resnet", {"widths": ODD, "num_labels": 10}),
    ("cifar_resnet", {"widths": COINCIDENT, "num_labels": 10}),
    ("cifar_vgg", {"widths": {"features": [5, 5, 5, 5, 5, 5, 5, 5]}, "num_labels": 5}),
    ("llama", {"intermediate_size": 32, "num_key_value_heads": 4, "tie_word_embeddings": False}),
]


def block_of(graph: WeightGraph, tensor: str) -> Block:
    return next(block for block in graph.blocks if block.tensor == tensor)


def emptied(graph: WeightGraph, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without anything that lies on the graph."""
    return {n: torch.full_like(w, torch.nan) if n in graph.claimed else w for n, w in weights.items()}


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_every_tensor_comes_back_bit_for_bit(build: Build, family: str, changes: dict[str, Any]) -> None:
    graph, weights, _ = build(family, **changes)
    assert set(weights) == graph.claimed | set(graph.carried)
    written = graph.write(graph.read(weights), emptied(graph, weights))
    plan = bundle_plan(graph, (1, 9), 100, CPU)
    bundled = plan.tensors([plan.entries(b, weights) for b in plan.bundles if b.links is None])
    for name, tensor in weights.items():
        assert torch.equal(written[name], tensor), name
    for block in graph.weight_blocks:
        assert torch.equal(bundled[block.tensor], weights[block.tensor]), block.tensor


@pytest.mark.parametrize("widths", [ODD, COINCIDENT])
def test_a_network_that_went_through_the_graph_answers_the_same(build: Build, widths: dict[str, Any]) -> None:
    graph, weights, model = build("cifar_resnet", widths=widths, num_labels=10)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    written = graph.write(graph.read(weights), emptied(graph, weights))
    assert torch.equal(functional_call(model, written, (images,)), model(images))


@pytest.mark.parametrize("family", ["cifar_resnet", "resnet", "vit", "llama", "gpt2"])
def test_the_edge_from_a_node_to_another_carries_their_entry(build: Build, family: str) -> None:
    graph, weights, _ = build(family)
    for block in graph.weight_blocks:
        weight = weights[block.tensor].T if block.transposed else weights[block.tensor]
        entries = block.entries(weights)[0]
        first_target, first_source = int(block.targets[0, 0]), int(block.sources[0, 0])
        for i, j in [(0, 0), (entries.shape[0] - 1, entries.shape[1] // 2)]:
            assert torch.equal(entries[i, j], weight[i, j].flatten())
            assert int(block.targets[0, i]) == first_target + i
            assert int(block.sources[0, j]) == first_source + j


def test_only_what_no_edge_or_node_can_hold_is_carried(build: Build) -> None:
    for family, parts in {
        "cifar_resnet": ("num_batches_tracked",),
        "resnet": ("num_batches_tracked",),
        "llama": ("embed_tokens.weight", "inv_freq"),
        "gpt2": ("wte.weight", "wpe.weight"),
        "vit": ("cls_token", "position_embeddings"),
    }.items():
        assert all(name.endswith(parts) for name in build(family)[0].carried), family


def test_residual_sums_hear_both_branches_and_nothing_else(build: Build) -> None:
    graph, _, _ = build("cifar_resnet", widths=COINCIDENT, num_labels=10)
    names = {nodes.start: nodes.name for nodes in graph.node_sets}
    heard = [
        (names[int(block.targets[0, 0])], names[int(block.sources[0, 0])])
        for block in graph.blocks
        if block.link == "add"
    ]
    assert heard[:2] == [("layer1.0.conv2+", "layer1.0.conv2"), ("layer1.0.conv2+", "conv1")]
    assert len(heard) == 6
    for block in graph.blocks:
        if block.link == "add":
            assert block.shape == (10, 1, 1, 1)
            assert torch.equal(block.targets.diff(dim=0), block.sources.diff(dim=0))


def test_the_classifier_reads_the_last_sum_whatever_the_widths(build: Build) -> None:
    graph, _, _ = build("cifar_resnet", widths=COINCIDENT, num_labels=10)
    last = next(nodes for nodes in graph.node_sets if nodes.name == "layer3.0.downsample.0+")
    assert block_of(graph, "fc.weight").sources.flatten().tolist() == list(range(last.start, last.start + 10))
    assert graph.node_sets[-1].slots == {"bias": "fc.bias"}


def test_a_flattened_image_has_one_tap_per_place(build: Build) -> None:
    graph, _, _ = build("cifar_vgg")
    assert block_of(graph, "classifier.weight").shape == (1, 5, 6, 4)


def test_statistics_lie_on_the_nodes_of_their_convolution(build: Build) -> None:
    graph, _, _ = build("cifar_resnet")
    slots = next(nodes.slots for nodes in graph.node_sets if nodes.name == "layer1.0.conv1")
    vectors = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
    assert slots == {slot: f"layer1.0.bn1.{vector}" for slot, vector in vectors.items()}


def test_heads_hear_their_own_channels_and_groups_share_keys(build: Build) -> None:
    graph, _, _ = build("llama")  # 4 query heads, 2 KV heads of 8 channels
    heads = next(nodes for nodes in graph.node_sets if nodes.name.endswith("0.self_attn.v_proj heads"))
    hearing = next(b for b in graph.blocks if b.link == "attend" and int(b.targets[0, 0]) == heads.start)
    assert hearing.shape == (4, 1, 24, 1)
    queries, others = hearing.sources[:, :8], hearing.sources[:, 8:]
    assert len(queries.unique()) == 32
    assert torch.equal(others[0], others[1])
    assert not torch.equal(others[1], others[2])


class Odd(nn.Module):
    """Groups, depth-wise convolutions, a concatenation, a norm of groups, one weight used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(6, 6, 5, padding=2, groups=6)
        self.norm = nn.GroupNorm(2, 10)
        self.shared = nn.Conv2d(10, 10, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = self.depthwise(self.grouped(pixel_values).relu())
        both = self.norm(torch.cat([hidden, pixel_values], dim=1))
        return self.shared(self.shared(both).relu_())


@pytest.fixture
def odd() -> tuple[WeightGraph, dict[str, Tensor]]:
    model = Odd().double()
    randomise(model)
    return trace(model, {"pixel_values": torch.randn(1, 4, 6, 6, dtype=torch.float64)}), tensors_of(model)


def test_groups_are_blocks_on_the_diagonal(odd: tuple[WeightGraph, dict[str, Tensor]]) -> None:
    graph, weights = odd
    grouped, depthwise = block_of(graph, "grouped.weight"), block_of(graph, "depthwise.weight")
    assert (grouped.shape, depthwise.shape) == ((2, 3, 2, 9), (6, 1, 1, 25))
    assert torch.equal(depthwise.sources.flatten(), grouped.targets.flatten())
    assert torch.equal(grouped.entries(weights)[1, 2, 0], weights["grouped.weight"][5, 0].flatten())
    assert not graph.carried


def test_concatenations_keep_their_parts_apart(odd: tuple[WeightGraph, dict[str, Tensor]]) -> None:
    graph, _ = odd
    norm = next(nodes for nodes in graph.node_sets if nodes.name == "norm")
    link = next(block for block in graph.blocks if block.link == "normalise")
    colours, depthwise = graph.node_sets[0], block_of(graph, "depthwise.weight").targets.flatten()
    assert norm.slots == {"scale": "norm.weight", "shift": "norm.bias"}
    assert link.sources.flatten().tolist() == [*depthwise.tolist(), *range(colours.start, colours.size)]


def test_a_weight_that_is_used_twice_is_held_once(odd: tuple[WeightGraph, dict[str, Tensor]]) -> None:
    graph, _ = odd
    assert sum(block.tensor == "shared.weight" for block in graph.blocks) == 1
    assert sum(block.link == "tie" for block in graph.blocks) == 2


def test_graphs_are_made_once_per_architecture() -> None:
    config = adapters["cifar_resnet"].tiny()
    assert weight_graph_of(config) is weight_graph_of(dict(reversed(config.items())))


def test_gradients_pass_both_ways(build: Build) -> None:
    graph, weights, _ = build("cifar_resnet")
    leaves = {name: w.clone().requires_grad_() for name, w in weights.items() if w.is_floating_point()}
    written = graph.write(graph.read({**weights, **leaves}), weights)
    sum(written[name].square().sum() for name in graph.claimed).backward()
    for name in graph.claimed:
        torch.testing.assert_close(leaves[name].grad, 2 * weights[name])
