"""What every architecture family must hold, on a tiny random network of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.io.atomic import publish
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.units import VOCABULARY, UnitGraph

MEMBERS = [(family, model_type) for family in adapters for model_type in adapters[family].model_types]
Make = Callable[..., Checkpoint]


def random_plan(graph: UnitGraph, seed: int, kinds: tuple[str, ...] = ()) -> Plan:
    """A plan that keeps a random, uniform share of every group of the given kinds (or of all)."""
    rng = np.random.default_rng(seed)
    keep = {}
    for groups in graph.ties.values():
        size, floor, multiple = groups[0].size, groups[0].floor, groups[0].multiple_of
        count = max(floor, multiple, int(size * rng.uniform(0.4, 0.9)) // multiple * multiple)
        for group in groups:
            if group.kind in (kinds or set(graph.kinds) - {VOCABULARY}):
                keep[group.name] = tuple(sorted(rng.permutation(size)[:count].tolist()))
    return Plan(keep, Budget(0.5), "test")


def load(checkpoint: Checkpoint, folder: Path) -> torch.nn.Module:
    """Load a folder as its users will, and see that every weight found its place."""
    return checkpoint.adapter.load(folder, torch.float32)


def example_inputs(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Random inputs of the family's kind."""
    config = checkpoint.config
    if checkpoint.adapter.task == "vision":
        side = int(config.get("image_size", 32))
        return {"pixel_values": torch.randn(2, int(config.get("num_channels", 3)), side, side)}
    return {"input_ids": torch.randint(3, int(config["vocab_size"]), (2, 12))}


def outputs(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's logits, or its last hidden state."""
    with torch.no_grad():
        result = model(**inputs)
    if isinstance(result, torch.Tensor):
        return result
    return result.logits if "logits" in result else result.last_hidden_state


def cut_to(checkpoint: Checkpoint, plan: Plan, target: Path) -> Path:
    folder = prepare(checkpoint, plan, target)
    finish(folder)
    publish(folder, target)
    return target


def plans_for(graph: UnitGraph) -> list[Plan]:
    """One plan per unit kind, and one that cuts everything at once; tokens need a tokenizer."""
    kinds = [kind for kind in graph.kinds if kind != VOCABULARY]
    return [random_plan(graph, seed, (kind,)) for seed, kind in enumerate(kinds)] + [random_plan(graph, 9)]


@pytest.mark.parametrize(("family", "model_type"), MEMBERS)
def test_masked_equals_cut(family: str, model_type: str, tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(model_type)
    dense, inputs = load(checkpoint, checkpoint.folder), example_inputs(checkpoint)
    whole = outputs(dense, inputs)
    for number, plan in enumerate(plans_for(checkpoint.graph)):
        with masked(dense, checkpoint.graph, plan):
            expected = outputs(dense, inputs)
        pruned = load(checkpoint, cut_to(checkpoint, plan, tmp_path / f"cut{number}"))
        torch.testing.assert_close(outputs(pruned, inputs), expected, rtol=1e-5, atol=1e-5)
        assert (expected - whole).abs().max() > 1e-3, f"{plan.keep} removes nothing that matters"
    torch.testing.assert_close(outputs(dense, inputs), whole)


@pytest.mark.parametrize(("family", "model_type"), MEMBERS)
def test_costs_add_up(family: str, model_type: str, tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(model_type)
    true_count = sum(p.numel() for p in load(checkpoint, checkpoint.folder).parameters())
    assert cost_of(checkpoint.graph).params == true_count
    for number, plan in enumerate(plans_for(checkpoint.graph)):
        pruned = load(checkpoint, cut_to(checkpoint, plan, tmp_path / f"cut{number}"))
        assert cost_of(checkpoint.graph, plan.keep).params == sum(p.numel() for p in pruned.parameters())


@pytest.mark.parametrize(("family", "model_type"), MEMBERS)
def test_shapes_without_weights_match_the_checkpoint(
    family: str, model_type: str, tiny_checkpoint: Make
) -> None:
    checkpoint = tiny_checkpoint(model_type)
    adapter = checkpoint.adapter
    graph = adapter.units(checkpoint.config, adapter.shapes(checkpoint.config))
    assert [(g.name, g.size) for g in graph.groups] == [(g.name, g.size) for g in checkpoint.graph.groups]
    assert cost_of(graph).params == cost_of(checkpoint.graph).params


@pytest.mark.parametrize(("family", "model_type"), [m for m in MEMBERS if adapters[m[0]].task == "causal"])
def test_pruned_model_generates_with_cache(
    family: str, model_type: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(model_type)
    pruned = load(checkpoint, cut_to(checkpoint, random_plan(checkpoint.graph, 5), tmp_path / "cut"))
    prompt = example_inputs(checkpoint)["input_ids"]
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    cached = pruned.generate(prompt, use_cache=True, **settings)
    assert cached.shape == (2, 18)
    torch.testing.assert_close(cached, pruned.generate(prompt, use_cache=False, **settings))


@pytest.mark.parametrize(("family", "model_type"), MEMBERS)
def test_bfloat16_and_shards_survive(
    family: str, model_type: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(model_type, max_shard_size="20KB", dtype="bfloat16")
    result = Checkpoint.open(cut_to(checkpoint, random_plan(checkpoint.graph, 3), tmp_path / "cut"))
    assert set(result.config) >= {"model_type", "architectures"}
    assert (
        cost_of(result.graph).params
        == cost_of(checkpoint.graph, random_plan(checkpoint.graph, 3).keep).params
    )
