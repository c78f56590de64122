"""Gates act where the units are, one sample at a time if asked, and leave no trace."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.statistics.gates import find_module, gates

Make = Callable[..., Checkpoint]
PLACES = [
    ("llama", "layers.1.ffn"),
    ("llama", "layers.1.kv_heads"),
    ("llama", "layers"),
    ("opt", "layers.1.ffn"),
    ("mixtral", "layers.1.experts"),
    ("mixtral", "layers.1.experts.2.ffn"),
    ("qwen2_moe", "layers.0.shared_expert"),
]
TOKENS = torch.arange(3, 33).reshape(3, 10)


@pytest.fixture
def opened(tiny_checkpoint: Make) -> Callable[[str], tuple[Checkpoint, nn.Module]]:
    def opened(model_type: str) -> tuple[Checkpoint, nn.Module]:
        checkpoint = tiny_checkpoint(model_type)
        return checkpoint, checkpoint.adapter.load(checkpoint.folder, torch.float32)

    return opened


Opened = Callable[[str], tuple[Checkpoint, nn.Module]]


def score(model: nn.Module, tokens: Tensor) -> Tensor:
    """One number per sample."""
    logits: Tensor = model(input_ids=tokens).logits
    return logits.square().mean((1, 2))


@pytest.mark.parametrize(("model_type", "name"), PLACES)
def test_gradients_per_sample_equal_those_of_one_sample(model_type: str, name: str, opened: Opened) -> None:
    checkpoint, model = opened(model_type)
    size = checkpoint.graph[name].size
    together = torch.ones(len(TOKENS), size, requires_grad=True)
    with gates(model, checkpoint.graph, {name: together}):
        score(model, TOKENS).sum().backward()
    for sample, row in enumerate(TOKENS):
        alone = torch.ones(size, requires_grad=True)
        with gates(model, checkpoint.graph, {name: alone}):
            score(model, row[None]).sum().backward()
        assert together.grad is not None
        torch.testing.assert_close(together.grad[sample], alone.grad, rtol=1e-4, atol=1e-6)
    assert together.grad.abs().max() > 1e-6


@pytest.mark.parametrize(("model_type", "name"), PLACES)
def test_ones_change_nothing_and_nothing_stays_behind(model_type: str, name: str, opened: Opened) -> None:
    checkpoint, model = opened(model_type)
    whole = score(model, TOKENS)
    size = checkpoint.graph[name].size
    with gates(model, checkpoint.graph, {name: torch.ones(size)}):
        torch.testing.assert_close(score(model, TOKENS), whole)
    with gates(model, checkpoint.graph, {name: torch.linspace(0.2, 0.9, size)}):
        assert (score(model, TOKENS) - whole).abs().max() > 1e-5
    torch.testing.assert_close(score(model, TOKENS), whole, rtol=0, atol=0)
    assert not [module for module in model.modules() if "forward" in vars(module)]


@pytest.mark.parametrize(("model_type", "name"), PLACES)
def test_nested_gates_multiply(model_type: str, name: str, opened: Opened) -> None:
    checkpoint, model = opened(model_type)
    size = checkpoint.graph[name].size
    outer, inner = torch.linspace(0.3, 1, size), torch.linspace(1, 0.5, size)
    with gates(model, checkpoint.graph, {name: outer * inner}):
        expected = score(model, TOKENS)
    with gates(model, checkpoint.graph, {name: outer}), gates(model, checkpoint.graph, {name: inner}):
        found = score(model, TOKENS)
    torch.testing.assert_close(found, expected)


def test_forbidden_experts_do_not_compete(opened: Opened) -> None:
    checkpoint, model = opened("mixtral")
    router = find_module(model, "layers.1.mlp.gate")
    hidden = torch.randn(40, 32)
    with gates(model, checkpoint.graph, {"layers.1.experts": torch.tensor([1.0, 0, 1, 1])}):
        logits, weights, experts = router(hidden)
    assert logits.shape == (40, 4)
    assert set(experts.unique().tolist()) == {0, 2, 3}
    torch.testing.assert_close(weights.sum(-1), torch.ones(40))
    assert set(router(hidden)[2].unique().tolist()) == {0, 1, 2, 3}


def test_each_sample_may_forbid_its_own_experts(opened: Opened) -> None:
    checkpoint, model = opened("mixtral")
    own = torch.ones(len(TOKENS), 4)
    own[0, 1] = own[1, 2] = 0
    with gates(model, checkpoint.graph, {"layers.1.experts": own}):
        together = score(model, TOKENS)
    for sample, row in enumerate(TOKENS):
        with gates(model, checkpoint.graph, {"layers.1.experts": own[sample]}):
            torch.testing.assert_close(score(model, row[None])[0], together[sample])


def test_gated_channels_equal_scaled_columns(opened: Opened) -> None:
    checkpoint, model = opened("mixtral")
    factors = torch.linspace(0, 1, 32)
    values = {f"layers.1.experts.{expert}.ffn": factors + expert for expert in (0, 2)}
    with gates(model, checkpoint.graph, values):
        found = score(model, TOKENS)
    with torch.no_grad():
        for expert in (0, 2):
            find_module(model, "layers.1.mlp.experts").down_proj[expert].mul_(factors + expert)
    torch.testing.assert_close(found, score(model, TOKENS))
