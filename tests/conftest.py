"""One thread, fixed seeds, no network, tiny models."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.convnets import networks as convnets

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _seeded(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def build_model(config: dict[str, Any]) -> torch.nn.Module:
    """Return a random model in which every unit matters (no zero biases, no tiny weights)."""
    adapter = adapter_for(config)
    torch.manual_seed(0)
    model = adapter.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (parameter.dim() == 1) * 0.8)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model.eval()


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Callable[..., Checkpoint]:
    """A function that writes a tiny random model of a family and opens it."""

    def make(model_type: str = "llama", max_shard_size: str = "1GB", **changes: Any) -> Checkpoint:
        config = {**adapter_for({"model_type": model_type}).tiny(), "model_type": model_type, **changes}
        folder = tmp_path / f"model-{model_type}"
        model = build_model(config)
        if isinstance(model, transformers.PreTrainedModel):
            model.save_pretrained(folder, max_shard_size=max_shard_size)
        else:
            convnets.save(model.to(getattr(torch, config.get("dtype", "float32"))), folder)
        return Checkpoint.open(folder)

    return make


@pytest.fixture
def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer with one token per byte, a start token and an end token: 258 in all."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["</s>", "<s>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
