"""What every criterion must hold on a tiny network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.statistics.activations import activation_stats
from prunepolicy.pruning.statistics.gate_gradients import gate_gradients
from prunepolicy.pruning.statistics.layer_drops import layer_drops
from prunepolicy.pruning.statistics.stats import Stats, weight_stats

Make = Callable[..., Checkpoint]
OF_EXPERTS = [name for name in criteria if criteria[name].kinds == ("expert",)]
LANGUAGE = [name for name in criteria if name not in ("bn_scale", "token_cost", *OF_EXPERTS)]


def all_stats(checkpoint: Checkpoint, model: nn.Module) -> Stats:
    """Every statistic of a language model, on a few random tokens."""
    graph = checkpoint.graph
    inputs = {"input_ids": torch.randint(3, 64, (6, 10), generator=torch.Generator().manual_seed(3))}
    stats = weight_stats(checkpoint, graph.groups)
    stats = stats.merged(activation_stats(model, graph, graph.groups, inputs))
    stats = stats.merged(layer_drops(model, graph, graph.groups, inputs))
    return stats.merged(gate_gradients(model, graph, graph.groups, inputs))


@pytest.fixture
def watched(tiny_checkpoint: Make) -> tuple[Checkpoint, nn.Module, Stats]:
    checkpoint = tiny_checkpoint("llama")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    return checkpoint, model, all_stats(checkpoint, model)


@pytest.mark.parametrize("name", LANGUAGE)
def test_one_finite_score_per_unit(name: str, watched: tuple[Checkpoint, nn.Module, Stats]) -> None:
    checkpoint, _, stats = watched
    criterion = criteria[name]
    others = [kind for kind in checkpoint.graph.kinds if kind != "vocabulary"]
    groups = checkpoint.graph.of_kind(*(criterion.kinds or others))
    scores = criterion(checkpoint.graph, groups, stats)
    for group in groups:
        assert scores[group.name].shape == (group.size,)
        assert torch.isfinite(scores[group.name]).all()
    assert any(len(score.unique()) > 1 for score in scores.values()), "it tells no units apart"


@pytest.mark.parametrize("name", OF_EXPERTS)
def test_experts_have_finite_scores_that_follow_them(name: str, tiny_checkpoint: Make) -> None:
    """Experts in another order, with the router's rows, get the same scores in that order."""
    checkpoint = tiny_checkpoint("mixtral")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    group = checkpoint.graph["layers.0.experts"]
    before = criteria[name](checkpoint.graph, (group,), all_stats(checkpoint, model))[group.name]
    assert torch.isfinite(before).all()
    assert len(before.unique()) > 1, "it tells no experts apart"
    order = torch.randperm(group.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for module, weight in (("gate", "weight"), ("experts", "gate_up_proj"), ("experts", "down_proj")):
            parameter = model.get_submodule(f"model.layers.0.mlp.{module}").get_parameter(weight)
            parameter.copy_(parameter[order].clone())
    after = criteria[name](checkpoint.graph, (group,), all_stats(checkpoint, model))[group.name]
    torch.testing.assert_close(after, before[order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in LANGUAGE if name not in ("random", "angular", "drop")])
def test_scores_follow_their_units(
    name: str, watched: tuple[Checkpoint, nn.Module, Stats], tiny_checkpoint: Make
) -> None:
    """Channels in another order get the same scores in that order."""
    checkpoint, model, stats = watched
    group = checkpoint.graph["layers.1.ffn"]
    order = torch.randperm(group.size, generator=torch.Generator().manual_seed(1))
    before = criteria[name](checkpoint.graph, (group,), stats)[group.name]
    mlp = model.get_submodule("model.layers.1.mlp")
    with torch.no_grad():
        for projection in ("gate_proj", "up_proj"):
            weight = mlp.get_submodule(projection).get_parameter("weight")
            weight.copy_(weight[order].clone())
        weight = mlp.get_submodule("down_proj").get_parameter("weight")
        weight.copy_(weight[:, order].clone())
    model.save_pretrained(checkpoint.folder)
    shuffled = Checkpoint.open(checkpoint.folder)
    after = criteria[name](shuffled.graph, (group,), all_stats(shuffled, model))[group.name]
    torch.testing.assert_close(after, before[order], rtol=1e-4, atol=1e-6)


def test_random_depends_on_the_seed_alone(watched: tuple[Checkpoint, nn.Module, Stats]) -> None:
    checkpoint, _, stats = watched
    group = checkpoint.graph["layers.0.ffn"]
    score = criteria["random"]
    first = score(checkpoint.graph, (group,), stats)[group.name]
    assert torch.equal(first, score(checkpoint.graph, (group,), Stats())[group.name])
    other = score(checkpoint.graph, (group,), replace(stats, seed=1))[group.name]
    assert not torch.equal(first, other)


def test_watching_leaves_the_model_as_it_was(watched: tuple[Checkpoint, nn.Module, Stats]) -> None:
    checkpoint, model, _ = watched
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    all_stats(checkpoint, model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_fisher_is_half_the_mean_squared_gate_gradient_of_single_samples(
    watched: tuple[Checkpoint, nn.Module, Stats],
) -> None:
    checkpoint, model, stats = watched
    group = checkpoint.graph["layers.2.ffn"]
    tokens = torch.randint(3, 64, (6, 10), generator=torch.Generator().manual_seed(3))
    rows = [
        gate_gradients(model, checkpoint.graph, (group,), {"input_ids": row[None]}).get(
            "gradients", group.name
        )
        for row in tokens
    ]
    expected = torch.cat(rows).square().mean(0) / 2
    found = criteria["fisher"](checkpoint.graph, (group,), stats)[group.name]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
