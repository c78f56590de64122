"""Mixtral: experts in every layer."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.blocks import Ffn
from prunepolicy.pruning.adapters.experts import Experts, MixtureAdapter
from prunepolicy.pruning.adapters.registry import register


@register
class Mixtral(MixtureAdapter):
    """Gated experts and grouped-query attention."""

    model_types = ("mixtral",)
    experts = Experts(
        router="block_sparse_moe.gate",
        prefix="block_sparse_moe.experts.",
        ffn=Ffn(("w1", "w3"), "w2", "intermediate_size"),
        count_keys=("num_local_experts",),
    )

    def tiny(self) -> Config:
        """A three-layer network with four experts, two of them per token."""
        return {
            "model_type": "mixtral",
            "architectures": ["MixtralForCausalLM"],
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 64,
        }
