"""What convolution adapters derive: coupled channels, ties, operations, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError
from prunepolicy.pruning.io.atomic import publish
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import gates, masked
from prunepolicy.pruning.units import UnitGraph

Make = Callable[..., Checkpoint]
BASIC: dict[str, Any] = {
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 12],
    "downsample_in_first_stage": False,
}
FAMILIES = ["resnet", "cifar_resnet", "cifar_vgg", "cifar_cnn", "efficientnet_lite"]


def logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    output = model(images)
    return output if isinstance(output, torch.Tensor) else output.logits


def images_for(checkpoint: Checkpoint) -> torch.Tensor:
    side = checkpoint.config["image_size"]
    return torch.randn(2, 3, side, side)


def plan_of(graph: UnitGraph, **counts: int) -> Plan:
    """Keep the last units of every group whose tie is named (dots written as `__`)."""
    sizes = {tie.replace("__", "."): count for tie, count in counts.items()}
    keep = {g.name: tuple(range(g.size - sizes[g.tie], g.size)) for g in graph.groups if g.tie in sizes}
    return Plan(keep, Budget(0.5), "test")


def cut(checkpoint: Checkpoint, plan: Plan, target: Path) -> Checkpoint:
    folder = prepare(checkpoint, plan, target)
    finish(folder)
    publish(folder, target)
    return Checkpoint.open(target)


def test_an_identity_shortcut_couples_stem_and_first_stage(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("resnet", **BASIC)
    graph, images = checkpoint.graph, images_for(checkpoint)
    assert {group.tie for group in graph.groups} == {"hidden_sizes.0", "hidden_sizes.1"}
    plan = plan_of(graph, hidden_sizes__0=5, hidden_sizes__1=7)
    dense = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    with torch.no_grad(), masked(dense, graph, plan):
        expected = logits(dense, images)
    result = cut(checkpoint, plan, tmp_path / "cut")
    assert (result.config["embedding_size"], result.config["hidden_sizes"]) == (5, [5, 7])
    pruned = checkpoint.adapter.load(result.folder, torch.float32)
    torch.testing.assert_close(logits(pruned, images), expected, rtol=1e-5, atol=1e-5)


def test_bottleneck_channels_go_in_fours(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("resnet")
    plan = plan_of(checkpoint.graph, hidden_sizes__0=3, hidden_sizes__1=5)
    assert cut(checkpoint, plan, tmp_path / "cut").config["hidden_sizes"] == [12, 20]


def test_a_shortcut_that_would_vanish_is_refused(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("resnet", downsample_in_first_stage=False)
    plan = plan_of(checkpoint.graph, hidden_sizes__0=3)
    with pytest.raises(PrunePolicyError, match="would both have 12 channels"):
        checkpoint.adapter.edit_config(checkpoint.config, checkpoint.graph, plan)


def test_unequal_widths_inside_a_stage_are_refused(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("resnet")
    plan = Plan({checkpoint.graph.groups[1].name: (0, 1)}, Budget(0.5), "test")
    with pytest.raises(PrunePolicyError, match="uniform"):
        prepare(checkpoint, plan, tmp_path / "cut")


@pytest.mark.parametrize("family", FAMILIES)
def test_operations_are_those_that_torch_counts(family: str, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(family)
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    with FlopCounterMode(display=False) as counter:
        logits(model, images_for(checkpoint)[:1])
    assert cost_of(checkpoint.graph).flops == counter.get_total_flops()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_sample_has_gates_of_its_own(family: str, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(family)
    model, images = checkpoint.adapter.load(checkpoint.folder, torch.float32), images_for(checkpoint)
    values = {group.name: torch.rand(2, group.size) for group in checkpoint.graph.groups}
    with torch.no_grad():
        with gates(model, checkpoint.graph, values):
            together = logits(model, images)
        for sample in range(2):
            with gates(model, checkpoint.graph, {name: value[sample] for name, value in values.items()}):
                torch.testing.assert_close(logits(model, images)[sample], together[sample])


def test_edges_follow_the_signal(tiny_checkpoint: Make) -> None:
    chain = tiny_checkpoint("cifar_vgg").graph
    assert chain.edges == tuple((i, i + 1) for i in range(len(chain.groups) - 1))
    graph = tiny_checkpoint("cifar_resnet").graph
    names = [(graph.groups[a].name, graph.groups[b].name) for a, b in graph.edges]
    assert ("conv1", "layer1.0.conv1") in names
    assert ("layer1.0.conv1", "conv1") in names  # into the residual stream
    assert ("conv1", "layer2.0.conv2") in names  # through the shortcut


def test_the_result_carries_the_file_that_loads_it(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("cifar_resnet")
    keep = {"conv1": (0, 2, 5), "layer2.0.conv1": (1, 8)}
    result = cut(checkpoint, Plan(keep, Budget(0.5), "test"), tmp_path / "cut")
    assert result.config["widths"] == {"residual": [3, 8, 12], "inner": [[5], [2], [8]]}
    assert "prunepolicy" not in (result.folder / "modeling_convnet.py").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "resnet9"},
        {"widths": {"residual": [6], "inner": []}},
        {"widths": {"residual": [6, 8, 13], "inner": [[5], [9], [8]]}},
        {"image_size": "large"},
        {"num_channels": 0},
    ],
)
def test_configurations_that_do_not_fit_are_named(change: dict[str, Any], tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("cifar_resnet")
    with pytest.raises(BadCheckpointError, match=r"config\.json"):
        adapters["cifar_resnet"].units(checkpoint.config | change, checkpoint.shapes)
