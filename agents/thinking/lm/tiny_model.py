"""A LLaMA-type model from nothing, small enough to learn on one core; an ordinary Hugging Face model."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator

from prunepolicy.agents.training.recipe import check_heads
from prunepolicy.pruning.io.config import StrictConfig


class NewModel(StrictConfig):
    """Sizes of a model that starts with random weights.

    Attributes:
        merges: entries of the vocabulary beyond single bytes; 0 reads letter by letter.
        context: positions.
        layout: of turns, `plain` lines or as DeepSeek-R1's distilled models have them.
    """

    layers: int = Field(default=3, ge=1)
    hidden: int = Field(default=192, ge=8)
    ffn: int = Field(default=512, ge=8)
    heads: int = Field(default=6, ge=1)
    merges: int = Field(default=0, ge=0)
    context: int = Field(default=256, ge=16)
    layout: Literal["plain", "r1"] = "plain"

    @model_validator(mode="after")
    def _heads(self) -> Self:
        check_heads(self.hidden, self.heads, self.heads)
        return self


def new_model(sizes: NewModel, tokenizer: Any, seed: int) -> Any:
    """Return the model, for the vocabulary of `tokenizer`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.hidden,
        intermediate_size=sizes.ffn,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=sizes.context,
        tie_word_embeddings=True,
        initializer_range=sizes.hidden**-0.5,  # the usual 0.02 is for wide models: small ones wait for long
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)
