"""GPT-NeoX (Pythia): parallel attention and feed-forward, heads whose size transformers derives."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Ffn, TransformerAdapter


@register
class GptNeox(TransformerAdapter):
    """Feed-forward channels and layers."""

    model_types = ("gpt_neox",)
    ffn = Ffn(("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h", "intermediate_size")
    tables = ("embed_in.",)
    head = "embed_out.weight"

    def tiny(self) -> Config:
        """A three-layer network with rotary positions in a quarter of every head."""
        return {
            "model_type": "gpt_neox",
            "architectures": ["GPTNeoXForCausalLM"],
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
