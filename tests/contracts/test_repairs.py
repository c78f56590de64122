"""What every repair must hold: exact edits, an untouched dense model, loading anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import Edits, finish, prepare
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.atomic import publish
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair import RepairContext, repairs
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.repair.refit import Refitter
from prunepolicy.pruning.repair.ridge import refit_kept_columns, remember_moments, ridge
from prunepolicy.pruning.units import UnitGraph

Make = Callable[..., Checkpoint]
FAMILIES = {
    "bias": ("llama", "gpt2", "vit"),
    "ridge": ("llama", "gpt2", "vit"),
    "reconstruction": ("llama", "gpt2", "gpt_neox", "vit", "bert", "gemma3_text"),
    "norm_stats": ("cifar_resnet",),
}
MEMBERS = [(name, family) for name in repairs for family in FAMILIES.get(name, ("llama",))]


def plan_for(graph: UnitGraph, repair: str) -> Plan:
    """Every second unit of the widest kind goes, and the second layer where there are layers."""
    kind = "ffn" if "ffn" in graph.kinds else "channel"
    keep = {group.name: tuple(range(0, group.size, 2)) for group in graph.of_kind(kind)}
    keep |= {"layers": (0, 2)} if "layers" in graph else {}
    return Plan(keep, Budget(0.5), "test", repair=repair)


def inputs_for(checkpoint: Checkpoint, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    config = checkpoint.config
    if checkpoint.adapter.task == "vision":
        side = int(config.get("image_size", 32))
        return {"pixel_values": torch.randn(12, 3, side, side, generator=generator)}
    return {"input_ids": torch.randint(int(config["vocab_size"]), (12, 16), generator=generator)}


def answer(model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        output = model(**inputs)
    return output if isinstance(output, Tensor) else output.logits  # type: ignore[no-any-return]


def treated(checkpoint: Checkpoint, name: str) -> tuple[torch.nn.Module, Plan, Edits]:
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    plan = plan_for(checkpoint.graph, name)
    return model, plan, repairs[name](RepairContext(checkpoint, model, plan, inputs_for(checkpoint)))


@pytest.mark.parametrize(("name", "family"), MEMBERS)
def test_the_edited_dense_model_equals_the_repaired_checkpoint(
    name: str, family: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(family)
    model, plan, edits = treated(checkpoint, name)
    inputs = inputs_for(checkpoint, seed=1)
    with edited(model, checkpoint.graph, plan, Edits()):
        unrepaired = answer(model, inputs)
    with edited(model, checkpoint.graph, plan, edits):
        expected = answer(model, inputs)
    folder = prepare(checkpoint, plan, tmp_path / "cut", edits)
    finish(folder)
    publish(folder, tmp_path / "cut")
    loaded = checkpoint.adapter.load(tmp_path / "cut", torch.float32)
    torch.testing.assert_close(answer(loaded, inputs), expected, rtol=1e-5, atol=1e-5)
    assert (expected - unrepaired).abs().max() > 1e-3, "the repair changes nothing"


@pytest.mark.parametrize(("name", "family"), MEMBERS)
def test_the_dense_model_stays_as_it_was(name: str, family: str, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(family)
    inputs = inputs_for(checkpoint, seed=1)
    fresh = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    model, plan, edits = treated(checkpoint, name)
    with edited(model, checkpoint.graph, plan, edits):
        answer(model, inputs)
    torch.testing.assert_close(answer(model, inputs), answer(fresh, inputs), rtol=0, atol=0)
    for (key, value), (other, expected) in zip(
        model.state_dict().items(), fresh.state_dict().items(), strict=True
    ):
        assert key == other
        assert torch.equal(value, expected)


@pytest.mark.parametrize(("name", "family"), MEMBERS)
def test_equal_probes_give_equal_edits(name: str, family: str, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(family)
    first, second = (treated(checkpoint, name)[2] for _ in range(2))
    assert first.config == second.config
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


def test_bias_gives_back_the_mean(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    model, inputs = checkpoint.adapter.load(checkpoint.folder, torch.float32), inputs_for(checkpoint)
    keep = {f"layers.{layer}.ffn": tuple(range(0, 48, 2)) for layer in range(3)}
    plan = Plan(keep, Budget(0.5), "test", repair="bias")
    edits = repairs["bias"](RepairContext(checkpoint, model, plan, inputs))
    assert edits.config == {"mlp_bias": True}
    seen: list[Tensor] = []
    module = model.get_submodule("model.layers.0.mlp")
    with module.register_forward_hook(lambda _, inputs, output: seen.append(output)):
        answer(model, inputs)
        with edited(model, checkpoint.graph, plan, edits):
            answer(model, inputs)
    torch.testing.assert_close(seen[0].mean((0, 1)), seen[1].mean((0, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "family", "words"),
    [("bias", "phi3", "can't carry the bias"), ("norm_stats", "llama", "no batch norms")],
)
def test_families_that_cannot_be_repaired_are_refused_in_a_sentence(
    name: str, family: str, words: str, tiny_checkpoint: Make
) -> None:
    with pytest.raises(UsageError, match=words):
        treated(tiny_checkpoint(family), name)


def test_what_is_remembered_serves_every_plan(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    model, inputs = checkpoint.adapter.load(checkpoint.folder, torch.float32), inputs_for(checkpoint)
    known: dict[str, tuple[Tensor, Tensor]] = {}
    for start in (0, 1):
        plan = Plan({"layers.1.ffn": tuple(range(start, 48, 2))}, Budget(0.9), "test", repair="ridge")
        context = RepairContext(checkpoint, model, plan, inputs, known)
        if not known:
            remember_moments(context)
        again, anew = ridge(context), ridge(RepairContext(checkpoint, model, plan, inputs))
        assert again.tensors.keys() == anew.tensors.keys()
        assert all(torch.equal(again.tensors[name], tensor) for name, tensor in anew.tensors.items())
    assert known.keys() == {group.name for group in checkpoint.graph.of_kind("ffn")}


@pytest.mark.parametrize("samples", [4, 40, 400])
def test_ridge_never_raises_the_error_on_held_out_samples(samples: int) -> None:
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        mixing = torch.randn(24, 24, generator=generator)
        fitted, held_out = (torch.randn(samples, 24, generator=generator) @ mixing for _ in range(2))
        weight = torch.randn(8, 24, generator=generator)
        kept, cut = torch.arange(0, 24, 2), torch.arange(1, 24, 2)
        moments = fitted.T @ fitted / samples, held_out.T @ held_out / samples
        new = refit_kept_columns(weight, kept, cut, *moments, Refitter())
        wanted = held_out @ weight.T
        before, after = (
            (held_out[:, kept] @ columns.T - wanted).square().sum() for columns in (weight[:, kept], new)
        )
        assert after <= before * (1 + 1e-5)
        assert samples < 400 or after < 0.9 * before
