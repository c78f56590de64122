"""Statistics of channels: several norms may write one, and running statistics are no weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.statistics.activations import activation_stats
from prunepolicy.pruning.statistics.gate_gradients import gate_gradients
from prunepolicy.pruning.statistics.stats import group_costs, weight_stats

Make = Callable[..., Checkpoint]
FAMILIES = ["resnet", "cifar_resnet", "cifar_vgg"]
RESIDUAL = "resnet.encoder.stages.0.layers.0.layer.2.convolution"


def test_bn_scale_averages_over_norms_and_channels_of_a_unit(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("resnet")
    group = checkpoint.graph[RESIDUAL]
    block = RESIDUAL.rpartition(".layers.0")[0] + ".layers."
    writers = [f"{block}{path}" for path in ("0.shortcut", "0.layer.2", "1.layer.2")]
    factors = torch.stack([checkpoint.read(f"{path}.normalization.weight") for path in writers])
    stats = weight_stats(checkpoint, checkpoint.graph.groups)
    scores = criteria["bn_scale"](checkpoint.graph, (group,), stats)[RESIDUAL]
    torch.testing.assert_close(scores, factors.abs().mean(0).view(-1, 4).mean(1))


def test_running_statistics_count_neither_as_weights_nor_as_parameters(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("cifar_vgg")
    group = checkpoint.graph.groups[0]
    names = ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"]
    squares = sum(checkpoint.read(name).square().flatten(1).sum(1) for name in names[:1])
    squares = squares + sum(checkpoint.read(name).square() for name in names[1:])
    squares = squares + checkpoint.read("features.4.weight").square().sum((0, 2, 3))
    norms = weight_stats(checkpoint, [group]).get("weight_l2", group.name)
    torch.testing.assert_close(norms, squares.sqrt())
    without_one = {group.name: tuple(range(1, group.size))}
    saved = cost_of(checkpoint.graph).params - cost_of(checkpoint.graph, without_one).params
    assert group_costs(checkpoint.graph, group) == saved
    fewer = cost_of(checkpoint.graph).flops - cost_of(checkpoint.graph, without_one).flops
    assert group_costs(checkpoint.graph, group, "flops") == fewer


@pytest.mark.parametrize("family", FAMILIES)
def test_every_statistic_has_one_number_per_unit(family: str, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(family)
    graph, side = checkpoint.graph, checkpoint.config["image_size"]
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    inputs = {"pixel_values": torch.randn(3, 3, side, side)}
    stats = activation_stats(model, graph, graph.groups, inputs)
    stats = stats.merged(gate_gradients(model, graph, graph.groups, inputs))
    for group in graph.groups:
        assert stats.get("rms", group.name).shape == (group.size,)
        assert stats.get("rms", group.name).min() > 0
        assert stats.get("gradients", group.name).shape == (3, group.size)
        assert stats.get("gradients", group.name).abs().max() > 0


def test_residual_activations_are_those_of_all_writers(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("cifar_resnet")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    seen: list[torch.Tensor] = []
    for norm in (model.bn1, model.layer1[0].bn2):
        norm.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    inputs = {"pixel_values": torch.randn(3, 3, 32, 32)}
    stats = activation_stats(model, checkpoint.graph, [checkpoint.graph["conv1"]], inputs)
    expected = torch.stack(seen).square().mean((0, 1, 3, 4)).sqrt()
    torch.testing.assert_close(stats.get("rms", "conv1"), expected)
