"""Image classifiers that fit a set of images, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import nn

from prunepolicy.agents.images.image_set import ImageSet
from prunepolicy.agents.images.task import ImageTask
from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.agents.training.recipe import RecipePart
from prunepolicy.pruning import convnets
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import UsageError

PUBLISHED = 16
"""Width of the first stage of a CIFAR ResNet as published."""
VIT = "vit"


class NetworkRecipe(RecipePart):
    """An architecture and its size.

    Attributes:
        arch: `resnet20` and its kin, `vgg19` and its kin, or `vit`.
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
        try:
            config = self.config(task.images)
        except ValueError as error:
            raise UsageError(str(error)) from error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return adapter_for(config).build(config)

    def config(self, images: ImageSet) -> dict[str, Any]:
        """Return the configuration for images of this size and number of classes."""
        seen = {"num_channels": images.channels, "image_size": images.side}
        if self.arch == VIT:
            return _vit(self.width) | seen | {"id2label": {str(k): str(k) for k in range(images.classes)}}
        widths = _scaled(convnets.standard_widths(self.arch), self.width, self.arch)
        kind = "cifar_vgg" if self.arch in convnets.VGG_STAGES else "cifar_resnet"
        return {"model_type": kind, "arch": self.arch, "widths": widths, "num_labels": images.classes} | seen


def _scaled(widths: Any, width: int, arch: str) -> Any:
    """Return published widths in proportion to another first one."""
    if isinstance(widths, dict):
        return {name: _scaled(inside, width, arch) for name, inside in widths.items()}
    if isinstance(widths, list):
        return [_scaled(inside, width, arch) for inside in widths]
    first = convnets.VGG_CHANNELS[0] if arch in convnets.VGG_STAGES else PUBLISHED
    return max(1, widths * width // first)


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
