"""A plain network for small images: convolutions without padding, then linear layers."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.plain_convolution import PlainConvolutionAdapter
from prunepolicy.pruning.adapters.registry import register


@register
class CifarCnnAdapter(PlainConvolutionAdapter):
    """Six convolutions and two hidden linear layers, every width of which is free."""

    model_types = ("cifar_cnn",)

    def tiny(self) -> Config:
        """Images of 36 pixels, so that the first linear layer reads four places per channel."""
        return {
            "model_type": "cifar_cnn",
            "architectures": ["CifarCnn"],
            "arch": "cnn6",
            "widths": {"features": [6, 8, 7, 9, 6, 5], "hidden": [12, 10]},
            "num_labels": 5,
            "image_size": 36,
            "num_channels": 3,
        }
