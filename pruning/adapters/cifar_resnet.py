"""ResNet-20, 32, 56 and their kin for small images, in plain torch."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.plain_convolution import PlainConvolutionAdapter
from prunepolicy.pruning.adapters.registry import register


@register
class CifarResNetAdapter(PlainConvolutionAdapter):
    """Basic blocks; every block's inner width is free, every stage has one residual width."""

    model_types = ("cifar_resnet",)

    def tiny(self) -> Config:
        """One block per stage."""
        return {
            "model_type": "cifar_resnet",
            "architectures": ["CifarResNet"],
            "arch": "resnet8",
            "widths": {"residual": [6, 8, 12], "inner": [[5], [9], [8]]},
            "num_labels": 5,
            "image_size": 32,
            "num_channels": 3,
        }
