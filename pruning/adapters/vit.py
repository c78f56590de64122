"""ViT, with whatever head it carries."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Ffn, TransformerAdapter


@register
class Vit(TransformerAdapter):
    """Feed-forward channels and layers; the running model has other names than the checkpoint."""

    model_types = ("vit",)
    task = "vision"
    auto_class = "AutoModelForImageClassification"
    marker = "layer."
    running_layers = "layers"
    ffn = Ffn(("intermediate.dense",), "output.dense", "intermediate_size", running="mlp.fc2")
    tables = ("position_embeddings", "cls_token", "mask_token")

    def tiny(self) -> Config:
        """A three-layer network for images of 16 by 16 pixels."""
        return {
            "model_type": "vit",
            "architectures": ["ViTForImageClassification"],
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 16,
            "patch_size": 8,
        }
