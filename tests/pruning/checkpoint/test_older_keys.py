"""Both generations of transformers read one configuration: renamed settings stand there under either name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import prepare
from prunepolicy.pruning.checkpoint.older_keys import add_older_keys, older_tokenizer, with_older_keys
from prunepolicy.pruning.plan import Budget, Plan

Make = Callable[..., Checkpoint]
FULL, SLIDING = "full_attention", "sliding_attention"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 5e5}
LONG = {"rope_type": "longrope", "long_factor": [2.0] * 4, "short_factor": [1.0] * 4, "rope_theta": 3e4}


@pytest.mark.parametrize(
    ("model_type", "rope", "older"),
    [
        ("llama", {"rope_type": "default", "rope_theta": 1e6}, {"rope_theta": 1e6, "rope_scaling": None}),
        (
            "qwen3",
            YARN,
            {
                "rope_theta": 5e5,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 64,
                },
            },
        ),
        (
            "phi",
            {"rope_type": "default", "rope_theta": 7e3, "partial_rotary_factor": 0.4},
            {"rope_theta": 7e3, "partial_rotary_factor": 0.4},
        ),
        (
            "phi3",
            LONG,
            {"rope_scaling": {"type": "longrope", "long_factor": [2.0] * 4, "short_factor": [1.0] * 4}},
        ),
        (
            "gpt_neox",
            {"rope_type": "default", "rope_theta": 9e3, "partial_rotary_factor": 0.5},
            {"rotary_emb_base": 9e3, "rotary_pct": 0.5},
        ),
        (
            "gemma3_text",
            {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                SLIDING: {"rope_type": "default", "rope_theta": 2e4},
            },
            {
                "rope_theta": 1e6,
                "rope_local_base_freq": 2e4,
                "rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 8.0},
            },
        ),
        (
            "modernbert",
            {FULL: {"rope_type": "default", "rope_theta": 1e5}, SLIDING: {"rope_theta": 2e4}},
            {"global_rope_theta": 1e5, "local_rope_theta": 2e4},
        ),
    ],
)
def test_rope_is_written_under_the_old_keys_too(
    model_type: str, rope: dict[str, Any], older: dict[str, Any]
) -> None:
    config = {"model_type": model_type, "rope_parameters": rope}
    written = with_older_keys(config)
    assert written.items() >= older.items()
    assert written.items() >= config.items()


@pytest.mark.parametrize("alone", [False, True], ids=["beside the new keys", "without them"])
@pytest.mark.parametrize("rope", [YARN, {"rope_type": "default", "rope_theta": 1e6}], ids=["scaled", "plain"])
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "phi", "gpt_neox", "stablelm"])
def test_the_library_reads_the_same_from_the_old_keys(
    model_type: str, rope: dict[str, Any], alone: bool
) -> None:
    meant = transformers.AutoConfig.for_model(model_type, rope_parameters=dict(rope)).rope_parameters
    written = with_older_keys({"model_type": model_type, "rope_parameters": dict(meant)})
    if alone:
        del written["rope_parameters"]
    read = transformers.AutoConfig.for_model(**written).rope_parameters
    assert {key: read[key] for key in meant} == meant


@pytest.mark.parametrize("alone", [False, True], ids=["beside the new keys", "without them"])
@pytest.mark.parametrize("model_type", ["gemma3_text", "modernbert"])
def test_layers_keep_bases_of_their_own(model_type: str, alone: bool) -> None:
    rope = {FULL: {"rope_theta": 3e5}, SLIDING: {"rope_theta": 4e4}}
    meant = transformers.AutoConfig.for_model(model_type, rope_parameters=rope).rope_parameters
    written = with_older_keys({"model_type": model_type, "rope_parameters": json.loads(json.dumps(meant))})
    if alone:
        del written["rope_parameters"]
    read = transformers.AutoConfig.for_model(**written).rope_parameters
    assert [read[kind]["rope_theta"] for kind in (FULL, SLIDING)] == [3e5, 4e4]


def test_what_the_older_version_never_had_stays_as_it_is() -> None:
    rope = {FULL: {"rope_theta": 1e6}, SLIDING: {"rope_theta": 1e4}}
    config = {"model_type": "gemma4_text", "rope_parameters": rope}
    assert with_older_keys(config) == config


def test_a_scaling_that_both_versions_read_is_not_written_over() -> None:
    scaling = {"type": "linear", "factor": 2.0}
    config = {"model_type": "llama", "rope_parameters": {"rope_theta": 5.0}, "rope_scaling": scaling}
    assert with_older_keys(config) == config


def test_parts_types_and_counts_are_named_in_both_ways() -> None:
    text = {"model_type": "llama", "dtype": "bfloat16", "rope_parameters": {"rope_theta": 2e4}}
    written = with_older_keys({"model_type": "llava", "dtype": "float16", "text_config": text})
    assert (written["torch_dtype"], written["text_config"]["torch_dtype"]) == ("float16", "bfloat16")
    assert written["text_config"]["rope_theta"] == 2e4
    assert with_older_keys({"model_type": "qwen3_moe", "num_local_experts": 6})["num_experts"] == 6
    hybrid = with_older_keys({"model_type": "zamba2", "layers_block_type": ["linear_attention", "hybrid"]})
    assert hybrid["layers_block_type"] == ["mamba", "hybrid"]


@pytest.mark.parametrize("keep", [(16, 16), (16, 8)], ids=["equal widths", "widths of their own"])
def test_a_cut_writes_them_and_can_be_cut_again(
    keep: tuple[int, int], tiny_checkpoint: Make, tmp_path: Path
) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e6}
    checkpoint = tiny_checkpoint(num_hidden_layers=2, intermediate_size=24, rope_parameters=rope)
    plan = Plan({f"layers.{i}.ffn": tuple(range(n)) for i, n in enumerate(keep)}, Budget(0.9), "test")
    written = json.loads((prepare(checkpoint, plan, tmp_path / "cut") / "config.json").read_text())
    assert (written["rope_theta"], written["torch_dtype"]) == (1e6, "float32")


def test_a_network_of_experts_can_be_cut_twice(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("qwen3_moe", num_experts=6)
    for left in (5, 4):
        experts = [group.name for group in checkpoint.graph.of_kind("expert")]
        plan = Plan({name: tuple(range(left)) for name in experts}, Budget(0.9), "test")
        folder = prepare(checkpoint, plan, tmp_path / f"cut-{left}")
        written = json.loads((folder / "config.json").read_text())
        assert (written["num_experts"], written["num_local_experts"]) == (left, left)
        checkpoint = Checkpoint.open(folder)


def test_what_the_library_saves_is_put_into_the_words_of_both(
    tiny_checkpoint: Make, byte_tokenizer: transformers.PreTrainedTokenizerFast
) -> None:
    folder = tiny_checkpoint(rope_parameters={"rope_type": "default", "rope_theta": 1e6}).folder
    byte_tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    byte_tokenizer.save_pretrained(folder)
    add_older_keys(folder)
    assert json.loads((folder / "config.json").read_text())["rope_theta"] == 1e6
    written = json.loads((folder / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    read = transformers.AutoTokenizer.from_pretrained(folder)
    text = "a <tool>, an end</s>"
    assert read(text)["input_ids"] == byte_tokenizer(text)["input_ids"]


def test_tokenizers_of_a_class_that_both_know_stay() -> None:
    config = {"tokenizer_class": "GPT2Tokenizer", "extra_special_tokens": {"image_token": "<image>"}}
    assert older_tokenizer(config) == config
