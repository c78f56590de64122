"""A configuration that its weights contradict: named when the folder is opened, and the weights believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from prunepolicy.commands.doctor.doctor import doctor
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.plan import Budget, Plan

Make = Callable[..., Checkpoint]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def changed(folder: Path, settings: dict[str, Any], **tensors: torch.Tensor | None) -> Path:
    """Write other settings and tensors into a model folder; None takes one out."""
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    state = load_file(folder / "model.safetensors") | {
        name.replace("__", "."): t for name, t in tensors.items()
    }
    kept = {name: tensor for name, tensor in state.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def untied(tiny_checkpoint: Make) -> Path:
    """A folder with an embedding and a head of its own."""
    return tiny_checkpoint(tie_word_embeddings=False).folder


def parameters(folder: Path) -> int:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_head_that_differs_counts_and_the_result_says_so(untied: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(changed(untied, {"tie_word_embeddings": True}))
    assert cost_of(checkpoint.graph).params == parameters(untied)
    assert "differs from 'model.embed_tokens.weight'" in checkpoint.notes[0]
    assert checkpoint.notes[0] in doctor(str(untied)).problems
    plan = Plan({f"layers.{i}.ffn": tuple(range(8)) for i in range(3)}, Budget(0.9), "test")
    result = prepare(checkpoint, plan, tmp_path / "result")
    assert json.loads((result / "config.json").read_text())["tie_word_embeddings"] is False
    assert cost_of(checkpoint.graph, plan.keep).params == parameters(result)


def test_a_head_that_repeats_the_embedding_counts_and_is_written_once(untied: Path, tmp_path: Path) -> None:
    embedding = load_file(untied / "model.safetensors")[EMBEDDING]
    checkpoint = Checkpoint.open(changed(untied, {"tie_word_embeddings": True}, lm_head__weight=embedding))
    assert (cost_of(checkpoint.graph).params, checkpoint.notes) == (parameters(untied), ())
    result = prepare(checkpoint, Plan({}, Budget(1.0), "test"), tmp_path / "result")
    assert HEAD not in load_file(result / "model.safetensors")


def test_a_head_that_is_stored_nowhere_is_missed(untied: Path) -> None:
    with pytest.raises(BadCheckpointError, match="no head is stored"):
        Checkpoint.open(changed(untied, {}, lm_head__weight=None))
    assert Checkpoint.open(changed(untied, {"tie_word_embeddings": True})).notes == ()


def test_the_vocabulary_is_that_of_the_weights(untied: Path) -> None:
    with pytest.raises(BadCheckpointError, match=r"vocab_size = 70, .* has 64 rows; the weights are right"):
        Checkpoint.open(changed(untied, {"vocab_size": 70}))


@pytest.mark.parametrize("shape", [(0,), (0, 32)])
def test_weights_without_values_are_missed(shape: tuple[int, ...], untied: Path) -> None:
    with pytest.raises(BadCheckpointError, match=r"1 weights are stored empty.*model\.norm\.weight"):
        Checkpoint.open(changed(untied, {}, model__norm__weight=torch.empty(shape)))


@pytest.mark.parametrize("key", ["intermediate_size", "num_hidden_layers"])
def test_sizes_are_those_of_the_weights(key: str, untied: Path) -> None:
    with pytest.raises(BadCheckpointError, match=r"config\.json says"):
        assert Checkpoint.open(changed(untied, {key: 2})).graph


def test_numbers_that_json_lacks_are_read(untied: Path) -> None:
    limits = [0.0, {"__float__": "Infinity"}]
    config = Checkpoint.open(changed(untied, {"time_step_limit": limits})).config
    assert config["time_step_limit"] == [0.0, float("inf")]
