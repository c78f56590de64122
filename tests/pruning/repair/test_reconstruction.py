"""Reconstruction follows the dense network layer by layer, and leaves it to `ridge` where it can't."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair import RepairContext, repairs
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.units import Keep

Make = Callable[..., Checkpoint]
FFN = {f"layers.{layer}.ffn": tuple(range(0, 48, 2)) for layer in range(3)}
LAYERS = {"layers": (0, 2)}


def tokens(vocabulary: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"input_ids": torch.randint(vocabulary, (32, 24), generator=generator)}


@pytest.fixture
def opened(tiny_checkpoint: Make) -> tuple[Checkpoint, nn.Module]:
    """A tiny LLaMA, and the same running."""
    checkpoint = tiny_checkpoint("llama")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    return checkpoint, model


def both_repairs(checkpoint: Checkpoint, keep: Keep | None = None) -> list[dict[str, Tensor]]:
    """What reconstruction and ridge change; every second channel goes unless `keep` says otherwise."""
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    halves = {group.name: tuple(range(0, group.size, 2)) for group in checkpoint.graph.of_kind("ffn")}
    context = RepairContext(checkpoint, model, Plan(keep or halves, Budget(0.5), "test"), tokens(50, 0))
    return [dict(repairs[name](context).tensors) for name in ("reconstruction", "ridge")]


def last_hidden(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.model(**inputs).last_hidden_state  # type: ignore[no-any-return, operator, union-attr]


def distance(
    checkpoint: Checkpoint, model: nn.Module, plan: Plan, edits: Edits, inputs: dict[str, Tensor]
) -> float:
    """How far the cut network's hidden states lie from the dense one's, on average."""
    dense = last_hidden(model, inputs)
    with edited(model, checkpoint.graph, plan, edits):
        return float((last_hidden(model, inputs) - dense).square().mean())


@pytest.mark.parametrize("keep", [FFN, LAYERS, FFN | LAYERS], ids=["channels", "layers", "both"])
def test_the_stream_stays_closer_than_after_ridge(
    keep: dict[str, tuple[int, ...]], opened: tuple[Checkpoint, nn.Module]
) -> None:
    checkpoint, model = opened
    plan = Plan(keep, Budget(0.5), "test")
    context = RepairContext(checkpoint, model, plan, tokens(int(checkpoint.config["vocab_size"]), 0))
    unseen = tokens(int(checkpoint.config["vocab_size"]), 1)
    followed, alone = (
        distance(checkpoint, model, plan, repairs[name](context), unseen)
        for name in ("reconstruction", "ridge")
    )
    assert followed < 0.99 * alone


def test_what_comes_before_the_first_cut_stays_as_it_was(opened: tuple[Checkpoint, nn.Module]) -> None:
    checkpoint, model = opened
    plan = Plan({"layers.1.ffn": tuple(range(0, 48, 2))}, Budget(0.9), "test")
    context = RepairContext(checkpoint, model, plan, tokens(int(checkpoint.config["vocab_size"]), 0))
    changed = {name.split(".")[2] for name in repairs["reconstruction"](context).tensors}
    assert changed == {"1", "2"}


def test_a_plan_that_removes_nothing_changes_nothing(opened: tuple[Checkpoint, nn.Module]) -> None:
    checkpoint, model = opened
    context = RepairContext(checkpoint, model, Plan({}, Budget(1.0), "test"), tokens(50, 0))
    assert not repairs["reconstruction"](context).tensors


@pytest.mark.parametrize("family", ["gemma3_text", "bert", "mixtral"])
def test_layers_that_do_not_simply_add_their_block_get_ridge(family: str, tiny_checkpoint: Make) -> None:
    found, wanted = both_repairs(tiny_checkpoint(family))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_plans_that_take_heads_get_ridge(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    heads = next(iter(checkpoint.graph.of_kind("kv_head")))
    assert heads.size > 1
    found, wanted = both_repairs(checkpoint, FFN | {heads.name: (0,)})
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gpt_neox", "opt", "phi3", "gemma"])
def test_it_follows_where_layers_add(family: str, tiny_checkpoint: Make) -> None:
    found, otherwise = both_repairs(tiny_checkpoint(family))
    assert found.keys() == otherwise.keys()
    assert not all(torch.equal(found[name], tensor) for name, tensor in otherwise.items())
