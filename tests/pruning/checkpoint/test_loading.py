"""Models and tokenizers load from local folders; what doesn't load says why in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import load_model, load_tokenizer
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError, UsageError
from prunepolicy.pruning.io.precision import compute_dtype, parse_device, parse_dtype

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


@pytest.fixture
def with_code(tiny_checkpoint: Make, tmp_path: Path) -> Checkpoint:
    """A checkpoint whose folder names a file of code, which leaves a mark when it runs."""
    checkpoint = tiny_checkpoint()
    mark = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    (checkpoint.folder / "modelling.py").write_text(
        mark + "from transformers import LlamaForCausalLM as Mine\n"
    )
    edit_config(checkpoint, auto_map={"AutoModelForCausalLM": "modelling.Mine"})
    return checkpoint


@pytest.mark.parametrize("trusted", [True, False])
def test_code_that_is_not_needed_never_runs(trusted: bool, with_code: Checkpoint, tmp_path: Path) -> None:
    model = load_model(with_code.folder, with_code.adapter, torch.float32, CPU, trusted)
    assert type(model).__module__.startswith("transformers.")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("changes", [{"per_layer_sizes": [{}, {}, {}]}, {"model_type": "nobodys"}])
def test_code_in_the_folder_is_refused_until_asked_for(
    changes: dict[str, object], with_code: Checkpoint, tmp_path: Path
) -> None:
    edit_config(with_code, auto_map={"AutoModelForCausalLM": "modelling.Mine"}, **changes)
    with pytest.raises(PrunePolicyError, match="--trust-remote-code"):
        load_model(with_code.folder, with_code.adapter, torch.float32, CPU)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizers_code_does_not_run_unasked(
    tiny_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint().folder
    (folder / "vocab.json").write_text("{}")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    with pytest.raises(BadCheckpointError, match="no tokenizer that loads"):
        load_tokenizer(folder)
    assert not (tmp_path / "ran").exists()


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
    monkeypatch.setattr("prunepolicy.pruning.io.precision.cpu_flags", lambda: frozenset(flags))
    assert compute_dtype(CPU) == expected


def test_unknown_dtypes_and_devices_are_refused() -> None:
    assert parse_dtype("float32", CPU) == torch.float32
    with pytest.raises(UsageError, match="Did you mean 'bfloat16'"):
        parse_dtype("bfloat", CPU)
    with pytest.raises(UsageError, match=r"Unknown device 'cpuu'\. Did you mean 'cpu'"):
        parse_device("cpuu")
