"""OPT: learned positions, biases everywhere, heads whose size transformers derives."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Ffn, TransformerAdapter


@register
class Opt(TransformerAdapter):
    """Feed-forward channels and layers."""

    model_types = ("opt",)
    ffn = Ffn(("fc1",), "fc2", "ffn_dim")
    tables = ("embed_tokens.", "embed_positions.")
    ties_head = True

    def tiny(self) -> Config:
        """A three-layer network whose word embeddings are narrower than its layers."""
        return {
            "model_type": "opt",
            "architectures": ["OPTForCausalLM"],
            "vocab_size": 64,
            "hidden_size": 32,
            "word_embed_proj_dim": 16,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
        }
