"""Gemma, Gemma 2 and the text models of Gemma 3."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Attention, Ffn, TransformerAdapter


@register
class Gemma(TransformerAdapter):
    """Gated feed-forward; heads larger than hidden size / heads; sliding layers among full ones."""

    model_types = ("gemma", "gemma2", "gemma3_text")
    ffn = Ffn(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "intermediate_size")
    attention = Attention()
    heads_divide_hidden = ("gemma2", "gemma3_text")
    ties_head = True

    def tiny(self) -> Config:
        """A three-layer network whose heads are twice as large as the hidden size implies."""
        return {
            "model_type": "gemma",
            "architectures": ["GemmaForCausalLM"],
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 64,
        }
