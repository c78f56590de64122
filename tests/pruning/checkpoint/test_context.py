"""A model's context is what its positions leave, not only what its configuration states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from prunepolicy.pruning.checkpoint.context import UNLIMITED, context_of

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
GPT: dict[str, Any] = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 20}


@pytest.mark.parametrize(
    ("model_type", "auto_class", "settings", "context"),
    [
        ("llama", "AutoModelForCausalLM", SIZES | {"max_position_embeddings": 24}, 24),
        ("bert", "AutoModelForMaskedLM", SIZES | {"max_position_embeddings": 24}, 24),
        ("roberta", "AutoModelForMaskedLM", SIZES | {"max_position_embeddings": 24, "pad_token_id": 1}, 22),
        ("roberta", "AutoModelForMaskedLM", SIZES | {"max_position_embeddings": 24, "pad_token_id": 4}, 19),
        ("mpnet", "AutoModelForMaskedLM", SIZES | {"max_position_embeddings": 24, "pad_token_id": 1}, 22),
        ("opt", "AutoModelForCausalLM", SIZES | {"max_position_embeddings": 24, "ffn_dim": 16}, 24),
        ("gpt2", "AutoModelForCausalLM", GPT, 20),
        ("gptj", "AutoModelForCausalLM", GPT | {"rotary_dim": 4}, 20),
        ("mpt", "AutoModelForCausalLM", {"d_model": 16, "n_heads": 2, "n_layers": 1, "max_seq_len": 18}, 18),
    ],
)
def test_exactly_the_context_can_be_read(
    model_type: str, auto_class: str, settings: dict[str, Any], context: int
) -> None:
    config = transformers.AutoConfig.for_model(model_type, **settings)
    model = getattr(transformers, auto_class).from_config(config).eval()
    assert context_of(model) == context
    model(input_ids=torch.randint(5, 40, (1, context)))


def test_some_models_have_no_limit() -> None:
    config = transformers.AutoConfig.for_model("bloom", vocab_size=40, hidden_size=16, n_layer=1, n_head=2)
    assert context_of(transformers.AutoModelForCausalLM.from_config(config)) == UNLIMITED


@pytest.mark.parametrize("settings", [{"pad_token_id": 1}, {"pad_token_id": 6}])
def test_behind_the_padding_there_is_no_position_left(settings: dict[str, int]) -> None:
    config = transformers.AutoConfig.for_model("roberta", **SIZES, max_position_embeddings=24, **settings)
    model = transformers.AutoModelForMaskedLM.from_config(config).eval()
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.randint(7, 40, (1, context_of(model) + 1)))
