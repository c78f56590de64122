"""The doctor's numbers are those of the unit graph, and every gap is named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch

from prunepolicy.commands.doctor.doctor import Diagnosis, doctor
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.io.console import Console

Make = Callable[..., Checkpoint]
LAYER = 4 * 32 * 32 - 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32
TOTAL = 3 * LAYER + 64 * 32 + 32


def kind(diagnosis: Diagnosis, name: str) -> dict[str, Any]:
    return vars(next(facts for facts in diagnosis.kinds if facts.kind == name))


def shown(diagnosis: Diagnosis) -> str:
    console = Console(file=io.StringIO(), width=200)
    diagnosis.render(console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_counts_sizes_and_shares_are_exact(tiny_checkpoint: Make) -> None:
    diagnosis = doctor(str(tiny_checkpoint().folder))
    assert (diagnosis.family, diagnosis.model_type, diagnosis.params) == ("llama", "llama", TOTAL)
    ffn = kind(diagnosis, "ffn")
    assert (ffn["groups"], ffn["sizes"]) == (3, (48,))
    assert ffn["share"] == pytest.approx(3 * 3 * 48 * 32 / TOTAL)
    assert ffn["least_keep"] == pytest.approx(1 - 3 * 3 * 47 * 32 / TOTAL)
    assert kind(diagnosis, "layer")["share"] == pytest.approx(3 * LAYER / TOTAL)
    assert diagnosis.least_keep < min(facts.least_keep for facts in diagnosis.kinds)
    assert diagnosis.tensor_parallel == (1, 2)


def test_a_configuration_alone_says_the_same(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    whole = doctor(str(checkpoint.folder))
    (checkpoint.folder / "model.safetensors").unlink()
    alone = doctor(str(checkpoint.folder))
    assert alone.kinds == whole.kinds
    assert alone.needs is None
    assert any("no weights" in problem for problem in alone.problems)


def test_gaps_are_named(tiny_checkpoint: Make, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_checkpoint().folder
    assert any("no tokenizer" in problem for problem in doctor(str(folder)).problems)
    byte_tokenizer.save_pretrained(folder)
    assert not any("no tokenizer" in problem for problem in doctor(str(folder)).problems)
    monkeypatch.setattr("prunepolicy.commands.doctor.doctor.EXTRAS", {"no_such_package": "eval"})
    assert any("pip install 'prunepolicy[eval]'" in problem for problem in doctor(str(folder)).problems)


def test_packed_weights_are_named(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint().folder
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name].to(torch.int8)
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert any(f"stored as I8, the first is {name!r}" in problem for problem in doctor(str(folder)).problems)


def test_runtimes_say_what_was_tried_and_what_was_not(tiny_checkpoint: Make) -> None:
    text = {row.runtime: row for row in doctor(str(tiny_checkpoint().folder)).runtimes}
    assert text["transformers"].uniform == "loads; tried after every cut"
    assert "expected" in text["vLLM"].uniform
    assert "doesn't load" in text["llama.cpp (GGUF)"].per_layer
    assert text["ONNX export"].uniform == "not checked"
    (vision,) = doctor(str(tiny_checkpoint("cifar_resnet").folder)).runtimes
    assert "modeling_convnet.py" in vision.uniform


def test_everything_found_is_shown(tiny_checkpoint: Make) -> None:
    diagnosis = doctor(str(tiny_checkpoint().folder))
    text = shown(diagnosis)
    assert all(
        word in text for word in ("KV heads", "vLLM", "Tensor-parallel sizes: 1, 2", "GiB", "no tokenizer")
    )
    assert json.loads(diagnosis.to_json())["params"] == TOTAL


def test_an_unknown_architecture_is_diagnosed_by_what_its_configuration_counts(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    config = checkpoint.config | {"model_type": "stablelm", "architectures": ["StableLmForCausalLM"]}
    (checkpoint.folder / "config.json").write_text(json.dumps(config))
    diagnosis = doctor(str(checkpoint.folder))
    assert [facts.kind for facts in diagnosis.kinds] == ["ffn", "layer", "vocabulary"]
    assert any("No adapter knows model type 'stablelm'" in problem for problem in diagnosis.problems)


def test_an_unknown_architecture_without_layers_gets_what_can_be_said(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    (checkpoint.folder / "config.json").write_text(json.dumps(checkpoint.config | {"model_type": "lama"}))
    diagnosis = doctor(str(checkpoint.folder))
    assert (diagnosis.params, diagnosis.kinds, diagnosis.family) == (TOTAL, (), "unknown")
    text = shown(diagnosis)
    assert "Did you mean 'llama'?" in text
    (checkpoint.folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModelError, match="llama"):
        doctor(str(checkpoint.folder))
