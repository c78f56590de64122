"""VGG with batch normalisation for small images, in plain torch."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.plain_convolution import PlainConvolutionAdapter
from prunepolicy.pruning.adapters.registry import register


@register
class CifarVggAdapter(PlainConvolutionAdapter):
    """A chain of convolutions, every width of which is free."""

    model_types = ("cifar_vgg",)

    def tiny(self) -> Config:
        """VGG-11 on images of 64 pixels, so that the linear layer reads four places per channel."""
        return {
            "model_type": "cifar_vgg",
            "architectures": ["CifarVgg"],
            "arch": "vgg11",
            "widths": {"features": [6, 8, 10, 8, 10, 12, 8, 6]},
            "num_labels": 5,
            "image_size": 64,
            "num_channels": 3,
        }
