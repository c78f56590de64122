from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunepolicy.metanet.weight_network.deferred import deferred_backward
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork
from prunepolicy.metanet.weight_network.paths import paths
from prunepolicy.metanet.weight_network.weight_graph import WeightGraph, weight_graph_of
from prunepolicy.pruning.adapters import adapter_for, adapters

Build = Callable[..., tuple[WeightGraph, dict[str, Tensor], nn.Module]]
Learned = Callable[..., Metanetwork]
FAMILIES = ("cifar_resnet", "cifar_vgg", "resnet", "vit", "llama")


def pulled(graph: WeightGraph, modified: dict[str, Tensor]) -> Tensor:
    """A number that depends on every claimed tensor in its own way."""
    generator = torch.Generator().manual_seed(7)
    return sum(
        (torch.randn(modified[name].shape, generator=generator, dtype=torch.float64) * modified[name]).sum()
        for name in sorted(graph.claimed)
    )


def gradients(metanetwork: Metanetwork) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in metanetwork.named_parameters()}
    metanetwork.zero_grad()
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


@pytest.mark.parametrize("path", paths)
@pytest.mark.parametrize("family", [*FAMILIES, "mixtral", "gpt2", "bert"])
def test_at_the_start_nothing_changes(build: Build, family: str, path: str) -> None:
    graph, weights, _ = build(family)
    metanetwork = Metanetwork().double()
    metanetwork.settings = replace(metanetwork.settings, path=path)
    modified = metanetwork(graph, weights)
    assert modified.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(modified[name], tensor), name


@pytest.mark.parametrize("family", FAMILIES)
def test_all_paths_have_the_same_values_and_gradients(build: Build, learned: Learned, family: str) -> None:
    graph, weights, _ = build(family)
    metanetwork = learned()
    found = {}
    for path, most_edges in [("messages", 1 << 18), ("blocks", 1 << 18), ("streamed_blocks", 300)]:
        metanetwork.settings = replace(metanetwork.settings, path=path, most_edges=most_edges)
        modified = metanetwork(graph, weights)
        pulled(graph, modified).backward()
        found[path] = (modified, gradients(metanetwork))
    values, slopes = found.pop("messages")
    assert len(slopes) > 20
    for other_values, other_slopes in found.values():
        for name in graph.claimed:
            torch.testing.assert_close(other_values[name], values[name], rtol=1e-10, atol=1e-12)
        for name, slope in slopes.items():
            torch.testing.assert_close(other_slopes[name], slope, rtol=1e-7, atol=1e-9)


def test_only_weights_vectors_and_nothing_read_only_change(build: Build, learned: Learned) -> None:
    graph, weights, _ = build("cifar_resnet")
    modified = learned()(graph, weights)
    changed = {name for name, tensor in weights.items() if not torch.equal(tensor, modified[name])}
    assert changed == {name for name in weights if name.endswith(("weight", "bias"))}


def test_the_order_of_channels_means_nothing(build: Build, learned: Learned) -> None:
    graph, weights, _ = build("cifar_resnet")
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    inner = [f"layer2.0.bn1.{v}" for v in ("weight", "bias", "running_mean", "running_var")]

    def permuted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        moved = {name: tensors[name][order] for name in ("layer2.0.conv1.weight", *inner)}
        return {**tensors, **moved, "layer2.0.conv2.weight": tensors["layer2.0.conv2.weight"][:, order]}

    metanetwork = learned()
    first, second = permuted(metanetwork(graph, weights)), metanetwork(graph, permuted(weights))
    for name in weights:
        torch.testing.assert_close(second[name], first[name], rtol=1e-9, atol=1e-12)


def test_the_order_of_residual_channels_means_nothing(build: Build, learned: Learned) -> None:
    graph, weights, _ = build("llama")
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    writes = ("o_proj.weight", "down_proj.weight", "norm.weight")

    def permuted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        moved = {}
        for name, tensor in tensors.items():
            reads = graph.shapes[name][-1:] == (32,) and not name.endswith(writes)
            moved[name] = tensor[order] if name.endswith(writes) else tensor[:, order] if reads else tensor
        return moved

    metanetwork = learned()
    first, second = permuted(metanetwork(graph, weights)), metanetwork(graph, permuted(weights))
    for name in weights:
        torch.testing.assert_close(second[name], first[name], rtol=1e-9, atol=1e-12)


def test_the_order_of_kv_heads_means_nothing(build: Build, learned: Learned) -> None:
    graph, weights, _ = build("llama")  # two KV heads of 8 channels, each with two query heads
    axes = {"q_proj": (0, 16), "k_proj": (0, 8), "v_proj": (0, 8), "o_proj": (1, 16)}

    def swapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        moved = dict(tensors)
        for projection, (axis, width) in axes.items():
            name = f"model.layers.1.self_attn.{projection}.weight"
            moved[name] = tensors[name].roll(width, axis)
        return moved

    metanetwork = learned()
    first, second = swapped(metanetwork(graph, weights)), metanetwork(graph, swapped(weights))
    for name in weights:
        torch.testing.assert_close(second[name], first[name], rtol=1e-9, atol=1e-12)


def test_the_scale_of_a_weight_changes_shares_only_through_one_feature(
    build: Build, learned: Learned
) -> None:
    graph, weights, _ = build("cifar_resnet")
    metanetwork = learned()
    metanetwork.edges.scale.weight.data.zero_()
    scaled = {**weights, "layer1.0.conv1.weight": 100 * weights["layer1.0.conv1.weight"]}
    first, second = metanetwork(graph, weights), metanetwork(graph, scaled)
    for name in graph.claimed:
        factor = 100 if name == "layer1.0.conv1.weight" else 1
        torch.testing.assert_close(second[name], factor * first[name], rtol=1e-9, atol=1e-9)


def test_one_metanetwork_reads_every_architecture_and_width(learned: Learned) -> None:
    metanetwork = learned(taps=(1, 9))
    for family in FAMILIES:
        config = adapters[family].tiny()
        model = adapter_for(config).build(config).double()
        weights = dict(model.named_parameters()) | dict(model.named_buffers())
        with torch.no_grad():
            modified = metanetwork(weight_graph_of(config), weights)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in modified.values())


def test_half_precision_networks_keep_their_type(build: Build, learned: Learned) -> None:
    graph, weights, _ = build("llama")
    halves = {name: tensor.bfloat16() for name, tensor in weights.items()}
    assert {tensor.dtype for tensor in learned()(graph, halves).values()} == {torch.bfloat16}


def test_one_backward_pass_for_many_losses_equals_one_for_each(build: Build, learned: Learned) -> None:
    graph, weights, model = build("cifar_resnet")
    metanetwork = learned()
    images = [torch.randn(4, 3, 32, 32, dtype=torch.float64) for _ in range(3)]

    def loss_of(batch: Tensor) -> Callable[[Any], Tensor]:
        return lambda modified: torch.func.functional_call(model, modified, (batch,)).square().mean()

    modified = metanetwork(graph, weights)
    sum(loss_of(batch)(modified) for batch in images).backward()
    whole = gradients(metanetwork)
    losses = deferred_backward(metanetwork(graph, weights), map(loss_of, images))
    assert losses == pytest.approx([float(loss_of(batch)(modified).detach()) for batch in images])
    for name, gradient in gradients(metanetwork).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-9, atol=1e-12)


def test_gradients_that_no_loss_has_pass_too(build: Build, learned: Learned) -> None:
    graph, weights, _ = build("cifar_resnet")
    metanetwork, name = learned(), "fc.weight"

    def pull(modified: Any) -> None:
        modified[name].grad = 2 * modified[name].detach()

    deferred_backward(metanetwork(graph, weights), [], [pull])
    direct = gradients(metanetwork)
    metanetwork(graph, weights)[name].square().sum().backward()
    for parameter, gradient in gradients(metanetwork).items():
        torch.testing.assert_close(direct[parameter], gradient, rtol=1e-9, atol=1e-12)
