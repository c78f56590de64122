"""An architecture without an adapter loses layers as one that has one, or is told why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from prunepolicy.commands.doctor.doctor import doctor
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.adapters.derived import derive
from prunepolicy.pruning.adapters.generic import equal_stacks, layer_only_adapter
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import PrunePolicyError, UnsupportedModelError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.probe import Probe, write_text

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def save(folder: Path, model_type: str, **changes: Any) -> Checkpoint:
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **changes})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return Checkpoint.open(folder)


@pytest.mark.parametrize("model_type", ["stablelm", "olmo2", "cohere2"])
def test_layers_of_an_unknown_architecture_can_go(model_type: str, tmp_path: Path) -> None:
    changes = {"sliding_window": 4} if model_type == "cohere2" else {}
    checkpoint = save(tmp_path / "model", model_type, **changes)
    assert "layer" in checkpoint.graph.kinds
    assert f"No adapter knows model type {model_type!r}" in str(checkpoint.adapter.notice)
    assert checkpoint.adapter.auto_class == "AutoModelForCausalLM"

    plan = Plan({"layers": (0, 3)}, Budget(0.5, "layers"), "test")
    load = transformers.AutoModelForCausalLM.from_pretrained
    dense = load(checkpoint.folder, dtype=torch.float32).eval()
    pruned = load(prepare(checkpoint, plan, tmp_path / "cut"), dtype=torch.float32).eval()
    tokens = torch.randint(3, 64, (2, 12))
    with torch.no_grad(), masked(dense, checkpoint.graph, plan):
        expected = dense(tokens).logits
    torch.testing.assert_close(pruned(tokens).logits, expected, rtol=1e-5, atol=1e-5)
    cost = cost_of(checkpoint.graph, plan.keep)
    assert cost.params == sum(parameter.numel() for parameter in pruned.parameters())
    assert cost.cache_entries == 2 * 2 * 2 * 8


def test_known_families_have_no_notice() -> None:
    assert adapter_for({"model_type": "llama"}).notice is None


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        ({"model_type": "olmo2", "num_hidden_layers": 2}, {"norm.weight": (4,)}),
        ({"model_type": "olmo2", "num_hidden_layers": 3}, {"h.0.w": (4,), "h.1.w": (4,)}),
        ({"model_type": "olmo2", "num_hidden_layers": 2}, {"h.0.w": (4,), "h.1.w": (8,)}),
        (
            {"model_type": "bart", "num_hidden_layers": 2},
            {f"{part}.layers.{i}.w": (4,) for part in ("encoder", "decoder") for i in range(2)},
        ),
    ],
)
def test_doubtful_architectures_are_refused(
    config: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    with pytest.raises(UnsupportedModelError, match=str(config["model_type"])):
        layer_only_adapter(config, shapes)


MAMBA = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 4, "state_size": 4}


def test_what_reads_neither_text_nor_images_is_refused(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("wav2vec2", **SIZES, num_conv_pos_embeddings=16)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(UnsupportedModelError, match="reads 'input_values'"):
        assert checkpoint.adapter
    assert doctor(str(tmp_path)).kinds == ()
    assert any("reads 'input_values'" in problem for problem in doctor(str(tmp_path)).problems)


def test_layers_are_offered_untried_only_where_no_copy_can_be_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save(tmp_path, "stablelm")
    monkeypatch.setattr(derive, "small_copies", lambda config, auto_class: iter(()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Checkpoint.open(checkpoint.folder).graph.kinds == ("layer",)
    with pytest.raises(UnsupportedModelError, match="No small copy of 'stablelm' can be tried"):
        adapter_for(checkpoint.config)


def test_layers_without_attention_can_go(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("mamba", **MAMBA)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    checkpoint = Checkpoint.open(tmp_path / "model")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    written = write_text(model, 1, Probe(samples=2, length=6))
    assert written.shape == (2, 6)
    result = prepare(checkpoint, Plan({"layers": (0, 3)}, Budget(0.5, "layers"), "test"), tmp_path / "cut")
    pruned = transformers.AutoModelForCausalLM.from_pretrained(result).eval()
    with torch.no_grad(), masked(model, checkpoint.graph, Plan({"layers": (0, 3)}, Budget(0.5), "test")):
        torch.testing.assert_close(pruned(written).logits, model(written).logits)


@pytest.mark.parametrize(
    ("model_type", "says"),
    [
        ("lama", "Did you mean 'llama'?"),
        ("gemma3_txt", "Did you mean 'gemma3_text'?"),
        ("llama9", "No adapter knows model type 'llama9', nor does transformers"),
    ],
)
def test_only_what_looks_like_a_typing_error_is_corrected(model_type: str, says: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        adapter_for({"model_type": model_type})
    assert says in str(caught.value)
    assert ("Did you mean" in str(caught.value)) == ("Did you mean" in says)


def test_a_class_that_is_not_loaded_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="BertForNextSentencePrediction"):
        adapter_for({"model_type": "bert", "architectures": ["BertForNextSentencePrediction"]})


def test_stacks_are_found_by_their_first_number() -> None:
    inside = {"experts.0.w": (4, 4), "experts.1.w": (4, 4), "norm": (4,)}
    shapes = {f"model.layers.{i}.{name}": shape for i in range(3) for name, shape in inside.items()}
    assert equal_stacks({**shapes, "head.weight": (8, 4)}) == {"model.layers.": 3}


@pytest.mark.parametrize("damage", [{"hidden_size": "wide"}, {"num_hidden_layers": "4"}])
def test_damaged_configurations_are_sentences(damage: dict[str, Any], tmp_path: Path) -> None:
    folder = save(tmp_path, "stablelm").folder
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises(PrunePolicyError):
        assert Checkpoint.open(folder).graph
