"""Gemma, Gemma 2 and the text models of Gemma 3."""

from __future__ import annotations

from collections.abc import Sequence

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Attention, Ffn, TransformerAdapter

TURNS = {"gemma2": 2, "gemma3_text": 6}
"""By model type, every how many layers one has full attention, where the configuration doesn't say."""


@register
class Gemma(TransformerAdapter):
    """Gated feed-forward; heads larger than hidden size / heads; sliding layers among full ones."""

    model_types = ("gemma", "gemma2", "gemma3_text")
    ffn = Ffn(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "intermediate_size")
    attention = Attention()
    heads_divide_hidden = ("gemma2", "gemma3_text")
    ties_head = True

    def layer_types(self, config: Config) -> Sequence[str]:
        """Return the kinds of attention; older configurations leave them to a rule."""
        turn = TURNS.get(str(config.get("model_type")))
        if config.get("layer_types") or not turn:
            return super().layer_types(config)
        length, depth = int(config.get("sliding_window_pattern") or turn), int(config["num_hidden_layers"])
        return ["full_attention" if not (n + 1) % length else "sliding_attention" for n in range(depth)]

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
