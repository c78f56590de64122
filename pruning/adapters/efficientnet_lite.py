"""EfficientNet-Lite: inverted residual blocks around depthwise convolutions, in plain torch."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.plain_convolution import PlainConvolutionAdapter
from prunepolicy.pruning.adapters.registry import register


@register
class EfficientNetLiteAdapter(PlainConvolutionAdapter):
    """Every block's inner width is free; every stage, stem and head have a width of their own."""

    model_types = ("efficientnet_lite",)

    def tiny(self) -> Config:
        """The sixteen blocks of Lite0, with a few channels each."""
        residual = [4, 5, 6, 5, 7, 6, 8]
        inner = [[None], [7, 8], [9, 8], [7, 10, 8], [9, 7, 8], [8, 9, 7, 10], [9]]
        return {
            "model_type": "efficientnet_lite",
            "architectures": ["EfficientNetLite"],
            "arch": "efficientnet-lite0",
            "widths": {"stem": 6, "residual": residual, "inner": inner, "head": 11},
            "num_labels": 5,
            "image_size": 32,
            "num_channels": 3,
        }
