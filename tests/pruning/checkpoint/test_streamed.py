"""A model whose layers are read as they run answers as the whole one, and never holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import NotEnoughSpaceError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session import opened_model
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel
from prunepolicy.pruning.statistics.probe import Probe

Make = Callable[..., Checkpoint]
PROBE = Probe("start", samples=6, length=12)
FAMILIES = ["llama", "gpt2", "gpt_neox", "opt", "phi3", "gemma3_text", "qwen3", "bert", "vit"]


def session(checkpoint: Checkpoint) -> ModelSession:
    return ModelSession("tiny", checkpoint, Hardware("cpu", "float32"))


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Checkpoint], ModelSession]:
    """A function that opens a checkpoint as if it were too large for the memory."""

    def opened(checkpoint: Checkpoint) -> ModelSession:
        found = session(checkpoint)
        with monkeypatch.context() as patch:
            patch.setattr(OpenedModel, "fits", lambda self, dtype, copies=1: False)
            _ = found.model
        return found

    return opened


def in_memory(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if not parameter.is_meta)


def inputs_for(found: ModelSession) -> dict[str, Any]:
    """Seeded noise of the model's kind; what a model writes itself is the same for both anyway."""
    generator = torch.Generator().manual_seed(0)
    if found.checkpoint.adapter.task == "vision":
        side = int(found.checkpoint.config["image_size"])
        return {"pixel_values": torch.randn(6, 3, side, side, generator=generator)}
    return {"input_ids": torch.randint(50, (6, 12), generator=generator)}


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_are_those_of_the_whole_model(
    family: str, tiny_checkpoint: Make, streamed: Callable[[Checkpoint], ModelSession]
) -> None:
    checkpoint = tiny_checkpoint(family)
    needs: Any = {"activations", "gradients", "drops"}
    kept = {group.name: tuple(range(1, group.size)) for group in checkpoint.graph.of_kind("ffn")[:1]}
    for plan in (Plan({}, Budget(1.0), "none"), Plan(kept, Budget(0.9), "test")):
        whole, layerwise = (open_(checkpoint) for open_ in (session, streamed))
        found = []
        for opened in (whole, layerwise):
            opened.found[checkpoint.fingerprint, PROBE] = inputs_for(opened)
            found.append(opened.stats(needs, PROBE, plan).values)
        assert found[0].keys() == found[1].keys()
        for name, groups in found[0].items():
            for group, wanted in groups.items():
                torch.testing.assert_close(found[1][name][group], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_repairs_are_those_of_the_whole_model(
    family: str, tiny_checkpoint: Make, streamed: Callable[[Checkpoint], ModelSession]
) -> None:
    checkpoint = tiny_checkpoint(family)
    kept = {group.name: tuple(range(0, group.size, 2)) for group in checkpoint.graph.of_kind("ffn")}
    plan = Plan(kept, Budget(0.5), "test", repair="reconstruction")
    edits = []
    for opened in (session(checkpoint), streamed(checkpoint)):
        opened.found[checkpoint.fingerprint, PROBE] = inputs_for(opened)
        edits.append(opened.repaired(plan, PROBE).tensors)
    assert edits[0].keys() == edits[1].keys() != set()
    for name, tensor in edits[0].items():
        torch.testing.assert_close(edits[1][name], tensor, rtol=1e-5, atol=1e-6)


def test_at_most_one_layer_is_in_memory(
    tiny_checkpoint: Make, streamed: Callable[[Checkpoint], ModelSession]
) -> None:
    checkpoint = tiny_checkpoint("llama")
    model, held = streamed(checkpoint).model, []
    whole = sum(parameter.numel() for parameter in model.parameters())
    outside = in_memory(model)
    for layer in model.get_submodule("model.layers").children():
        one = sum(parameter.numel() for parameter in layer.parameters())
        layer.get_submodule("mlp").register_forward_pre_hook(lambda *_: held.append(in_memory(model)))
    loss = model(torch.arange(24).reshape(2, 12)).logits.sum()
    model.get_input_embeddings().weight.requires_grad_()
    model(torch.arange(24).reshape(2, 12)).logits.sum().backward()
    assert len(held) == 3 * 3  # forth, forth again, and back
    assert set(held) == {outside + one}
    assert outside + one < whole
    assert in_memory(model) == outside
    assert torch.isfinite(loss)


def test_networks_that_stack_what_is_stored_one_by_one_are_not_read_so(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts, convolutions = session(tiny_checkpoint("mixtral")), session(tiny_checkpoint("cifar_resnet"))
    assert experts.streamed_parts is convolutions.streamed_parts is None
    monkeypatch.setattr(OpenedModel, "fits", lambda self, dtype, copies=1: False)
    with pytest.raises(NotEnoughSpaceError, match="policies that only read weights"):
        _ = experts.model


def test_a_layer_that_is_too_large_is_refused(tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_model, "available_memory", lambda: 1000)
    with pytest.raises(NotEnoughSpaceError, match="more than is free"):
        _ = session(tiny_checkpoint("llama")).model
