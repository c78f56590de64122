"""BERT, with whatever head it carries."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Ffn, TransformerAdapter


@register
class Bert(TransformerAdapter):
    """Feed-forward channels and layers of an encoder."""

    model_types = ("bert",)
    task = "encoder"
    auto_class = "AutoModelForMaskedLM"
    marker = "layer."
    ffn = Ffn(("intermediate.dense",), "output.dense", "intermediate_size")
    tables = ("word_embeddings.", "position_embeddings.", "token_type_embeddings.")
    head = "cls.predictions.decoder.weight"
    head_biases = ("cls.predictions.bias", "cls.predictions.decoder.bias")
    ties_head = True

    def tiny(self) -> Config:
        """A three-layer network that fills gaps in texts."""
        return {
            "model_type": "bert",
            "architectures": ["BertForMaskedLM"],
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
        }
