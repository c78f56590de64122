"""Single layers, dropped one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.layer_drops import layer_drops

Make = Callable[..., Checkpoint]
TOKENS = torch.randint(3, 64, (3, 10), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def opened(tiny_checkpoint: Make) -> tuple[Checkpoint, nn.Module]:
    checkpoint = tiny_checkpoint("llama", num_hidden_layers=10)
    return checkpoint, checkpoint.adapter.load(checkpoint.folder, torch.float32)


def divergence(checkpoint: Checkpoint, model: nn.Module, kept: tuple[int, ...]) -> float:
    plan = Plan({"layers": kept}, Budget(0.5, "layers"), "test")
    with torch.no_grad():
        dense = model(input_ids=TOKENS).logits.log_softmax(-1)
        with masked(model, checkpoint.graph, plan):
            pruned = model(input_ids=TOKENS).logits.log_softmax(-1)
    return float((dense.exp() * (dense - pruned)).sum(-1).mean())


def test_a_drop_is_the_divergence_without_that_layer(opened: tuple[Checkpoint, nn.Module]) -> None:
    checkpoint, model = opened
    drops = layer_drops(model, checkpoint.graph, checkpoint.graph.groups, {"input_ids": TOKENS})
    expected = [
        divergence(checkpoint, model, tuple(i for i in range(10) if i != layer)) for layer in range(10)
    ]
    torch.testing.assert_close(drops.get("drops", "layers"), torch.tensor(expected), rtol=1e-3, atol=1e-7)


def test_what_has_gone_stays_gone_while_others_are_dropped(opened: tuple[Checkpoint, nn.Module]) -> None:
    checkpoint, model = opened
    before = Plan({"layers": tuple(range(9))}, Budget(0.9, "layers"), "test")
    groups, inputs = checkpoint.graph.of_kind("layer"), {"input_ids": TOKENS}
    drops = layer_drops(model, checkpoint.graph, groups, inputs, before).get("drops", "layers")
    together = divergence(checkpoint, model, (1, 2, 3, 4, 5, 6, 7, 8))
    assert float(drops[0]) == pytest.approx(together, rel=1e-3)
