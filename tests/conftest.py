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
import torch
import transformers

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint import Checkpoint

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
    model = getattr(transformers, adapter.auto_class).from_config(transformers.AutoConfig.for_model(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (parameter.dim() == 1) * 0.8)
    return model.eval()


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Callable[..., Checkpoint]:
    """A function that writes a tiny random model of a family and opens it."""

    def make(model_type: str = "llama", max_shard_size: str = "1GB", **changes: Any) -> Checkpoint:
        config = {**adapter_for({"model_type": model_type}).tiny(), "model_type": model_type, **changes}
        folder = tmp_path / f"model-{model_type}"
        build_model(config).save_pretrained(folder, max_shard_size=max_shard_size)
        return Checkpoint.open(folder)

    return make
