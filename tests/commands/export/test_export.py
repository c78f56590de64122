"""Exports by the programs of others; small stand-ins play them here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from prunepolicy.cli import main
from prunepolicy.commands.export import gguf, onnx
from prunepolicy.commands.export.compared import compared
from prunepolicy.pruning.errors import PrunePolicyError

Make = Callable[..., str]

CONVERTER = """
import json, sys
from pathlib import Path
from safetensors.torch import load_file
import gguf

folder, words = Path(sys.argv[1]), dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert words["--outtype"] == "f16"
config = json.loads((folder / "config.json").read_text())
heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
writer = gguf.GGUFWriter(words["--outfile"], "llama")
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_block_count(layers)
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(heads)
writer.add_head_count_kv(config["num_key_value_heads"])
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_rope_dimension_count(config["head_dim"])
writer.add_rope_freq_base(10000.0)
writer.add_vocab_size(config["vocab_size"])
for name, tensor in load_file(folder / "model.safetensors").items():
    for kind, count in (("q_proj", heads), ("k_proj", config["num_key_value_heads"])):
        if kind in name:  # llama.cpp rotates neighbours, transformers halves.
            tensor = tensor.view(count, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
    if name == "model.embed_tokens.weight":
        target = "token_embd.weight"
    elif name == "model.norm.weight":
        target = "output_norm.weight"
    else:
        _, _, layer, inner = name.split(".", 3)
        target = f"blk.{layer}.{names[inner.removesuffix('.weight')]}.weight"
    array = SCALE * tensor.numpy()
    writer.add_tensor(target, array.astype("float16") if array.ndim > 1 else array.astype("float32"))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""
QUANTISER = '#!/bin/sh\nhead -c 100 "$1" > "$2"\necho "$3" >> "$2"\n'


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A function that installs programs in a folder that stands for a checkout of llama.cpp."""
    folder = tmp_path / "llama.cpp"
    folder.mkdir()
    monkeypatch.setenv(gguf.PLACE, str(folder))
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)

    def install(name: str, text: str) -> None:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    return install


def test_gguf_is_written_read_back_and_quantised(
    model: Make, checkout: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    folder = Path(model("llama"))
    checkout(gguf.CONVERTER, CONVERTER.replace("SCALE", "1"))
    assert main(["export", str(folder), "--to", "gguf", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    half = folder / f"{folder.name}-F16.gguf"
    assert first["files"] == [str(half)]
    assert first["comparison"]["agreeing"] == first["comparison"]["positions"] == 64
    assert "llama-quantize isn't on PATH" in first["notes"][0]
    checkout(gguf.QUANTISER, QUANTISER)
    assert main(["export", str(folder), "--to", "gguf"]) == 0
    quantised = folder / f"{folder.name}-Q4_K_M.gguf"
    assert quantised.read_bytes()[:100] == half.read_bytes()[:100]
    assert quantised.read_bytes().endswith(b"Q4_K_M\n")
    assert "predicts the same next token at 64 of 64 positions" in capsys.readouterr().out


def test_a_file_that_predicts_something_else_is_refused_and_leaves_nothing(
    model: Make, checkout: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    folder = Path(model("llama"))
    before = sorted(file.name for file in folder.iterdir())
    checkout(gguf.CONVERTER, CONVERTER.replace("SCALE", "-1"))
    assert main(["export", str(folder), "--to", "gguf"]) == 1
    assert "The exported file isn't the model" in capsys.readouterr().err
    assert sorted(file.name for file in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("raise SystemExit('no such pre-tokenizer\\n')", "failed: no such pre-tokenizer."),
        ("", "wrote no "),
    ],
)
def test_what_a_converter_says_when_it_fails_is_one_sentence(
    model: Make,
    checkout: Callable[[str, str], None],
    capsys: pytest.CaptureFixture[str],
    text: str,
    sentence: str,
) -> None:
    checkout(gguf.CONVERTER, text)
    assert main(["export", model("llama"), "--to", "gguf"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ("gguf", "set LLAMA_CPP_DIR to a checkout of llama.cpp."),
        ("onnx", "pip install optimum-onnx"),
        ("onx", "Did you mean 'onnx'"),
    ],
)
def test_a_missing_converter_is_told_before_anything_is_pruned(
    model: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    sentence: str,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(gguf.PLACE, raising=False)
    out = tmp_path / "smaller"
    assert main(["prune", model("llama"), "--keep", "0.9", "--export", form, "--out", str(out)]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


EXPORTER = """#!{python}
import sys
from pathlib import Path

words = sys.argv[1:]
assert words[:3] == ["export", "onnx", "--model"] and words[4:6] == ["--task", "text-generation"]
Path(words[6]).mkdir(parents=True, exist_ok=True)
(Path(words[6]) / "model.onnx").write_text(words[3])
"""


class Session:
    """Stands for onnxruntime's: its file names the model's folder."""

    def __init__(self, file: str, providers: list[str]) -> None:
        folder = Path(file).read_text()
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in ("input_ids", "attention_mask", "position_ids")]

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        assert names == ["logits"]
        with torch.inference_mode():
            logits = self.model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits
        return [logits.numpy()]


def test_onnx_is_written_by_optimum_and_run(
    model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / onnx.EXPORTER
    program.write_text(EXPORTER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    runtime: Any = ModuleType("onnxruntime")
    runtime.InferenceSession = Session
    runtime.__spec__ = SimpleNamespace(name="onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    folder = Path(model("llama"))
    assert main(["export", str(folder), "--to", "onnx"]) == 0
    said = capsys.readouterr().out
    assert "onnxruntime predicts the same next token at 64 of 64 positions." in said
    assert (folder / "onnx" / onnx.MODEL).is_file()


def test_a_prune_ends_with_its_export(
    model: Make,
    checkout: Callable[[str, str], None],
    tmp_path: Path,
    quick: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("gguf")
    checkout(gguf.CONVERTER, CONVERTER.replace("SCALE", "1"))
    out = tmp_path / "smaller"
    words = ["--policy", quick, "--no-verify", "--no-measure", "--export", "gguf", "--out", str(out)]
    assert main(["prune", model("llama"), "--keep", "0.8", "--of", "ffn", *words]) == 0
    assert (out / "smaller-F16.gguf").is_file()
    assert "64 of 64 positions" in capsys.readouterr().out


def test_answers_of_another_shape_are_no_agreement(model: Make) -> None:
    with pytest.raises(PrunePolicyError, match="answers in the shape"):
        compared(Path(model("llama")), "a reader", lambda ids: np.zeros((1, 5), dtype=np.float32))
