"""What transformer checkpoints differ in: prefixes, ties, leftovers, layers that know their number."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunepolicy.pruning.adapters import adapter_for, adapters
from prunepolicy.pruning.adapters.transformer import TransformerAdapter
from prunepolicy.pruning.checkpoint.checkpoint import WEIGHTS, Checkpoint
from prunepolicy.pruning.checkpoint.cut import prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import BadCheckpointError, UnsupportedModelError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import masked

Make = Callable[..., Checkpoint]
MEMBERS = [
    model_type
    for adapter in adapters.values()
    if isinstance(adapter, TransformerAdapter)
    for model_type in adapter.model_types
]
TEXT = [member for member in MEMBERS if member != "vit"]
TOKENS = torch.arange(3, 27).reshape(2, 12)


def half_of_everything(checkpoint: Checkpoint) -> Plan:
    """Drop the second layer, half of the experts, and half of all channels and heads."""
    keep = {
        group.name: tuple(range(group.size - max(group.floor, group.size // 2), group.size))
        for group in checkpoint.graph.groups
        if group.kind != "vocabulary"
    }
    return Plan({**keep, "layers": (0, 2)}, Budget(0.5), "test")


def run(model: nn.Module, checkpoint: Checkpoint) -> torch.Tensor:
    inputs: dict[str, Any] = {"input_ids": TOKENS}
    if checkpoint.adapter.task == "vision":
        inputs = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)}
    with torch.no_grad():
        result = model(**inputs)
    found: torch.Tensor = result.logits if "logits" in result else result.last_hidden_state
    return found


def assert_cut_equals_masked(checkpoint: Checkpoint, plan: Plan, target: Path) -> None:
    dense = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    pruned = checkpoint.adapter.load(prepare(checkpoint, plan, target), torch.float32)
    whole = run(dense, checkpoint)
    with masked(dense, checkpoint.graph, plan):
        expected = run(dense, checkpoint)
    torch.testing.assert_close(run(pruned, checkpoint), expected, rtol=1e-5, atol=1e-5)
    assert (expected - whole).abs().max() > 1e-3
    assert cost_of(checkpoint.graph, plan.keep).params == sum(p.numel() for p in pruned.parameters())


@pytest.mark.parametrize("model_type", MEMBERS)
def test_layers_experts_and_channels_go_at_once(
    model_type: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(model_type)
    assert_cut_equals_masked(checkpoint, half_of_everything(checkpoint), tmp_path / "cut")


@pytest.mark.parametrize("model_type", MEMBERS)
def test_base_models_lack_a_prefix(model_type: str, tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(model_type, architectures=["BaseModel"])
    assert checkpoint.adapter.auto_class == "AutoModel"
    assert not any(
        name.startswith(("model.layers", "transformer.", "bert.", "vit.")) for name in checkpoint.shapes
    )
    assert_cut_equals_masked(checkpoint, half_of_everything(checkpoint), tmp_path / "cut")


def test_gpt2_as_the_hub_stores_it(tiny_checkpoint: Make, tmp_path: Path) -> None:
    """No prefix, no head, and attention masks among the tensors."""
    plain = tiny_checkpoint("gpt2")
    tensors = load_file(plain.folder / WEIGHTS)
    stored = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    stored |= {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64) for i in range(3)}
    save_file(stored, plain.folder / WEIGHTS, {"format": "pt"})
    checkpoint = Checkpoint.open(plain.folder)
    assert cost_of(checkpoint.graph).params == cost_of(plain.graph).params
    assert cost_of(checkpoint.graph).flops == cost_of(plain.graph).flops
    assert_cut_equals_masked(checkpoint, half_of_everything(checkpoint), tmp_path / "cut")


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("bert", "BertForSequenceClassification"),
        ("bert", "BertForTokenClassification"),
        ("llama", "LlamaForSequenceClassification"),
        ("vit", "ViTModel"),
    ],
)
def test_other_heads_are_kept(
    model_type: str, architecture: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(model_type, architectures=[architecture], pad_token_id=0)
    assert checkpoint.config["architectures"] == [architecture]
    assert checkpoint.adapter.task == ("vision" if model_type == "vit" else "encoder")
    assert_cut_equals_masked(checkpoint, half_of_everything(checkpoint), tmp_path / "cut")


@pytest.mark.parametrize("model_type", TEXT)
@pytest.mark.parametrize("cut", [False, True])
def test_operations_are_those_torch_counts(
    model_type: str, cut: bool, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(model_type)
    plan = half_of_everything(checkpoint) if cut else Plan({}, Budget(1.0), "test")
    model = checkpoint.adapter.load(prepare(checkpoint, plan, tmp_path / "cut"), torch.float32)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # torch has no count for grouped products
    with FlopCounterMode(display=False) as counter:
        run(model, checkpoint)
    counted = counter.get_flop_counts()["Global"]
    linear = sum(counted.get(operation, 0) for operation in (torch.ops.aten.mm, torch.ops.aten.addmm))
    assert cost_of(checkpoint.graph, plan.keep).flops == linear / TOKENS.numel()


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "qwen2"])
def test_layers_that_move_up_keep_their_attention(
    model_type: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    """The rule that gives layers their type by their number must not be applied anew."""
    own = {"use_sliding_window": True, "max_window_layers": 5} if model_type == "qwen2" else {}
    checkpoint = tiny_checkpoint(model_type, sliding_window=4, num_hidden_layers=7, **own)
    types = checkpoint.config.pop("layer_types")
    (checkpoint.folder / "config.json").write_text(json.dumps(checkpoint.config))
    checkpoint = Checkpoint.open(checkpoint.folder)
    kept = (1, 2, 5, 6)
    plan = Plan({"layers": kept}, Budget(0.5, "layers"), "test")
    edited = checkpoint.adapter.edit_config(checkpoint.config, checkpoint.graph, plan)
    assert edited["layer_types"] == [types[layer] for layer in kept]
    assert len(set(edited["layer_types"])) == 2
    assert_cut_equals_masked(checkpoint, plan, tmp_path / "cut")


@pytest.mark.parametrize("kept", [(0, 2), (1, 2), (0, 1), (1,)])
def test_dense_layers_among_experts_are_numbered_anew(
    kept: tuple[int, ...], tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint("qwen3_moe", mlp_only_layers=[], decoder_sparse_step=2)
    sparse = {group.layer for group in checkpoint.graph.of_kind("expert")}
    assert sparse == {1}
    assert_cut_equals_masked(checkpoint, Plan({"layers": kept}, Budget(0.5), "test"), tmp_path / "cut")


def test_a_dropped_expert_has_no_say_in_the_width(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("mixtral")
    keep = {group.name: tuple(range(8)) for group in checkpoint.graph.of_kind("ffn")}
    gone = {f"layers.{i}.experts.3.ffn" for i in range(3)}
    keep = {name: units for name, units in keep.items() if name not in gone}
    plan = Plan({**keep, **{f"layers.{i}.experts": (0, 1, 2) for i in range(3)}}, Budget(0.5), "test")
    assert plan.is_uniform(checkpoint.graph)
    assert_cut_equals_masked(checkpoint, plan, tmp_path / "cut")
    one_more = replace(plan, keep={**plan.keep, "layers.0.experts": (0, 1, 2, 3)})
    assert not one_more.is_uniform(checkpoint.graph)


def test_experts_that_every_token_needs_stay(tiny_checkpoint: Make) -> None:
    group = tiny_checkpoint("qwen2_moe").graph["layers.0.experts"]
    assert (group.size, group.floor) == (4, 2)


def test_gpt2_scaled_by_layer_number_keeps_its_layers(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(UnsupportedModelError, match="scale_attn_by_inverse_layer_idx"):
        prepare(checkpoint, half_of_everything(checkpoint), tmp_path / "cut")


def test_a_missing_layer_is_named() -> None:
    shapes = {"model.layers.0.w": (1,), "model.layers.2.w": (1,)}
    config = {**adapters["llama"].tiny(), "num_hidden_layers": 3}
    with pytest.raises(BadCheckpointError, match="layer 1 has no tensors"):
        adapter_for(config).units(config, shapes)


def test_a_70b_graph_needs_no_weights() -> None:
    config = {
        **adapters["llama"].tiny(),
        "vocab_size": 128256,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    }
    adapter = adapter_for(config)
    graph = adapter.units(config, adapter.shapes(config))
    assert len(graph.groups) == 80 * 3 + 2
    assert cost_of(graph).params == 70_553_706_496
