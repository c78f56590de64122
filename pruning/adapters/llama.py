"""LLaMA and its kin: Mistral, Qwen2, Qwen3, SmolLM."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Attention, Ffn, TransformerAdapter


@register
class Llama(TransformerAdapter):
    """Gated feed-forward, grouped-query attention; biases and q/k norms where a member has them."""

    model_types = ("llama", "mistral", "qwen2", "qwen3")
    bias_key = "mlp_bias"
    ffn = Ffn(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "intermediate_size")
    attention = Attention()
    heads_divide_hidden = ("llama",)

    def tiny(self) -> Config:
        """A two-layer LLaMA with two KV heads of two query heads each."""
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 64,
            "tie_word_embeddings": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
