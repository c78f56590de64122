"""Activation statistics against direct computations on the running model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.activations import activation_stats

Make = Callable[..., Checkpoint]


def seen_by(model: nn.Module, name: str, tokens: Tensor) -> Tensor:
    """Return what a module reads, of all calls, shape (samples, positions, entries)."""
    found: list[Tensor] = []
    module = model.get_submodule(name)
    with torch.no_grad(), module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0])):
        model(tokens)
    return torch.cat(found)


def test_channels_of_a_feed_forward_block(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    tokens = torch.randint(64, (11, 9))  # more than one batch, the last one smaller
    stats = activation_stats(model, checkpoint.graph, checkpoint.graph.groups, {"input_ids": tokens})
    hidden = seen_by(model, "model.layers.1.mlp.down_proj", tokens)
    norms = model.get_parameter("model.layers.1.mlp.down_proj.weight").norm(dim=0)
    flat = hidden.flatten(0, 1)
    rms = flat.square().mean(0).sqrt()
    for name, expected in {
        "mean": flat.mean(0),
        "rms": rms,
        "max": flat.abs().amax(0),
        "first_rms": hidden[:, 0].square().mean(0).sqrt(),
        "output": rms * norms,
    }.items():
        torch.testing.assert_close(stats.get(name, "layers.1.ffn"), expected.detach(), rtol=1e-4, atol=1e-5)


def test_heads_gather_their_entries(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    tokens = torch.randint(64, (4, 9))
    stats = activation_stats(model, checkpoint.graph, checkpoint.graph.groups, {"input_ids": tokens})
    squares = seen_by(model, "model.layers.0.self_attn.o_proj", tokens).flatten(0, 1).square().mean(0)
    by_kv_head = squares.view(2, -1).sum(1).sqrt()  # two KV heads, each with two query heads of 8
    torch.testing.assert_close(stats.get("rms", "layers.0.kv_heads"), by_kv_head, rtol=1e-4, atol=1e-5)
    by_place = squares.view(2, 2, 8).sum((0, 2)).sqrt()
    torch.testing.assert_close(stats.get("rms", "layers.0.query_heads"), by_place, rtol=1e-4, atol=1e-5)


def test_channels_of_experts_are_weighted_by_the_router(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("mixtral")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    tokens = torch.randint(64, (10, 12))
    experts = model.get_submodule("model.layers.1.mlp.experts")
    calls: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad(), experts.register_forward_pre_hook(lambda _, inputs: calls.append(inputs)):
        model(tokens)
    ((hidden, chosen, weights),) = calls
    hidden = hidden.reshape(-1, hidden.shape[-1])
    gate, up = nn.functional.linear(hidden, experts.get_parameter("gate_up_proj")[2]).chunk(2, -1)
    share = (weights * (chosen == 2)).sum(1, keepdim=True)
    channels = experts.act_fn(gate) * up * share  # type: ignore[operator]
    stats = activation_stats(model, checkpoint.graph, checkpoint.graph.groups, {"input_ids": tokens})
    rms = channels.square().mean(0).sqrt()
    output = rms * experts.get_parameter("down_proj")[2].norm(dim=0)
    for name, expected in {"mean": channels.mean(0), "rms": rms, "output": output}.items():
        found = stats.get(name, "layers.1.experts.2.ffn")
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_the_planned_network(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    plan = Plan({"layers.0.ffn": tuple(range(24))}, Budget(0.5), "test")
    tokens = {"input_ids": torch.randint(64, (4, 9))}
    graph = checkpoint.graph
    before, after = (activation_stats(model, graph, graph.groups, tokens, which) for which in (None, plan))
    assert not torch.equal(before.get("rms", "layers.1.ffn"), after.get("rms", "layers.1.ffn"))
    again = activation_stats(model, graph, graph.groups, tokens)
    assert torch.equal(again.get("rms", "layers.1.ffn"), before.get("rms", "layers.1.ffn"))


@pytest.mark.parametrize("model_type", ["llama", "vit", "bert"])
def test_turning_angles_lie_between_none_and_half_a_turn(model_type: str, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(model_type)
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    noise = torch.randn(3, 3, 16, 16) if model_type == "vit" else torch.randint(60, (3, 9))
    key = "pixel_values" if model_type == "vit" else "input_ids"
    angles = activation_stats(model, checkpoint.graph, checkpoint.graph.groups, {key: noise}).get(
        "angular", "layers"
    )
    assert angles.shape == (3,)
    assert bool(((angles > 0) & (angles < 1)).all())
