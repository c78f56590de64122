"""Phi-3 and Phi-4: query, key and value in one projection, gate and up in another."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Attention, Ffn, TransformerAdapter

FUSED = "self_attn.qkv_proj"


@register
class Phi3(TransformerAdapter):
    """The LLaMA design with stacked projections."""

    model_types = ("phi3",)
    ffn = Ffn(("mlp.gate_up_proj",), "mlp.down_proj", "intermediate_size", halves=2)
    attention = Attention(FUSED, FUSED, FUSED)

    def tiny(self) -> Config:
        """A three-layer network with two KV heads of two query heads each."""
        return {
            "model_type": "phi3",
            "architectures": ["Phi3ForCausalLM"],
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        }
