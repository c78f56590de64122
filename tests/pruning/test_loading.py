"""Models and tokenizers load from local folders; what doesn't load says why in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import safetensors.torch
import torch

from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError, UsageError
from prunepolicy.pruning.loading import load_model, load_tokenizer
from prunepolicy.pruning.precision import compute_dtype, device_called, dtype_called

Make = Callable[..., Checkpoint]
CPU = torch.device("cpu")


def edit_config(checkpoint: Checkpoint, **changes: object) -> None:
    file = checkpoint.folder / "config.json"
    file.write_text(json.dumps(checkpoint.config | changes))


def test_loads_in_the_asked_precision_ready_to_run(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    model = load_model(checkpoint.folder, checkpoint.adapter, torch.bfloat16, CPU)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_names_a_missing_weight(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    weights = safetensors.torch.load_file(checkpoint.folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(weights, checkpoint.folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadCheckpointError, match=r"lacks 1 weights.*layers\.1\.mlp\.up_proj"):
        load_model(checkpoint.folder, checkpoint.adapter, torch.float32, CPU)


def test_a_configuration_of_another_size_is_one_sentence(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    edit_config(checkpoint, intermediate_size=40)
    with pytest.raises(BadCheckpointError, match=r"down_proj.weight' as \(32, 48\), .* implies \(32, 40\)"):
        load_model(checkpoint.folder, checkpoint.adapter, torch.float32, CPU)


def test_code_in_the_folder_is_refused_until_asked_for(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    edit_config(checkpoint, auto_map={"AutoModelForCausalLM": "modelling.Mine"})
    with pytest.raises(PrunePolicyError, match="--trust-remote-code"):
        load_model(checkpoint.folder, checkpoint.adapter, torch.float32, CPU)


def test_a_folder_without_tokenizer_says_so(tiny_checkpoint: Make) -> None:
    with pytest.raises(BadCheckpointError, match="has no tokenizer; copy"):
        load_tokenizer(tiny_checkpoint().folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "1.0", "model": {"type": "Nope"}}'])
def test_a_damaged_tokenizer_is_one_sentence(text: str, tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint().folder
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(BadCheckpointError, match=r"has no tokenizer that loads: .+\.$"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("flags", "expected"), [({"avx512_bf16"}, torch.bfloat16), ({"avx2"}, torch.float32)]
)
def test_bfloat16_only_where_the_cpu_multiplies_it(
    flags: set[str], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunepolicy.pruning.precision.cpu_flags", lambda: frozenset(flags))
    assert compute_dtype(CPU) == expected


def test_unknown_dtypes_and_devices_are_refused() -> None:
    assert dtype_called("float32", CPU) == torch.float32
    with pytest.raises(UsageError, match="Did you mean 'bfloat16'"):
        dtype_called("bfloat", CPU)
    with pytest.raises(UsageError, match=r"Unknown device 'cpuu'\. Did you mean 'cpu'"):
        device_called("cpuu")
