"""GPT-2: weights stored as (in, out), heads whose size transformers derives."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Ffn, TransformerAdapter


@register
class Gpt2(TransformerAdapter):
    """Feed-forward channels and layers; `n_inner` may be null, which means 4 * n_embd."""

    model_types = ("gpt2",)
    marker = "h."
    layers_key = "n_layer"
    hidden_key = "n_embd"
    ffn = Ffn(("mlp.c_fc",), "mlp.c_proj", "n_inner", transposed=True)
    tables = ("wte.", "wpe.")
    ties_head = True

    def tiny(self) -> Config:
        """A three-layer network with the default inner size."""
        return {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": 64,
            "n_embd": 16,
            "n_inner": None,
            "n_layer": 3,
            "n_head": 2,
            "n_positions": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
