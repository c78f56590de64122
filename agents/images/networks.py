"""Image classifiers that fit a set of images, with random weights."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from pydantic import Field
from torch import nn

from prunepolicy.agents.images.image_set import ImageSet
from prunepolicy.agents.images.task import ImageTask
from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import StrictConfig

PUBLISHED = 16
"""Width of the first stage of a CIFAR ResNet as published."""
VIT = "vit"


class NetworkRecipe(StrictConfig):
    """An architecture and its size.

    Attributes:
        arch: `resnet20` and its kin, `vgg19` and its kin, `cnn6`, `efficientnet-lite0`, or `vit`.
        width: channels of the first stage, or the hidden size of a `vit`; what follows keeps its proportions.
    """

    arch: str = "resnet20"
    width: int = Field(default=PUBLISHED, ge=1)

    def build(self, task: LearningTask, seed: int) -> nn.Module:
        """Return the network with random weights, for the images of `task`.

        Raises:
            UsageError: when the task has no images, or there is no such architecture.
        """
        if not isinstance(task, ImageTask):
            raise UsageError(f"{self.arch} sees images; a recipe with texts takes a language model.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                config = self.config(task.images)
                return adapter_for(config).build(config)
            except ValueError as error:
                raise UsageError(str(error)) from error

    def config(self, images: ImageSet) -> dict[str, Any]:
        """Return the configuration for images of this size and number of classes."""
        seen = {"num_channels": images.channels, "image_size": images.side}
        if self.arch == VIT:
            return _vit(self.width) | seen | {"id2label": {str(k): str(k) for k in range(images.classes)}}
        widths = convnets.standard_widths(self.arch)
        scaled = _scaled(widths, Fraction(self.width, _first(widths)))
        return convnets.described(self.arch, scaled) | {"num_labels": images.classes} | seen


def _first(widths: Any) -> int:
    """Return the width of the first convolution."""
    while not isinstance(widths, int):
        widths = next(iter(widths.values() if isinstance(widths, dict) else widths))
    return widths


def _scaled(widths: Any, share: Fraction) -> Any:
    """Return published widths in proportion to another first one."""
    if isinstance(widths, dict):
        return {name: _scaled(inside, share) for name, inside in widths.items()}
    if isinstance(widths, list):
        return [_scaled(inside, share) for inside in widths]
    return None if widths is None else max(1, int(widths * share))


def _vit(width: int) -> dict[str, Any]:
    return {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 4,
        "num_attention_heads": max(1, width // 16),
        "patch_size": 4,
    }
