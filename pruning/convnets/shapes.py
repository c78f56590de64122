"""The configuration of a convolution network that comes without one, read from the shapes of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prunepolicy.pruning.convnets.networks import (
    LITE_STAGES,
    STAGES,
    VGG_SHRINKS,
    VGG_STAGES,
    Config,
    described,
    family_of,
    resnet_blocks,
)

Shapes = Mapping[str, tuple[int, ...]]


def config_for(arch: str, shapes: Shapes) -> Config:
    """Return the configuration of weights whose architecture is known by name.

    Raises:
        ValueError: when the weights are not those of `arch`.
    """
    try:
        return READERS[family_of(arch)](arch, shapes)
    except KeyError as error:
        raise ValueError(f"The weights are not those of {arch}: {error} is missing.") from error


def _resnet(arch: str, shapes: Shapes) -> Config:
    blocks = range(resnet_blocks(arch))
    stages = [f"layer{stage + 1}" for stage in range(STAGES)]
    widths = {
        "residual": [shapes[f"{stage}.0.conv2.weight"][0] for stage in stages],
        "inner": [[shapes[f"{stage}.{block}.conv1.weight"][0] for block in blocks] for stage in stages],
    }
    sizes = {"num_labels": shapes["fc.weight"][0], "num_channels": shapes["conv1.weight"][1]}
    return described(arch, widths) | sizes


def _vgg(arch: str, shapes: Shapes) -> Config:
    widths, index = [], 0
    for depth in VGG_STAGES[arch]:
        widths += [shapes[f"features.{index + 3 * layer}.weight"][0] for layer in range(depth)]
        index += 3 * depth + 1  # convolution, norm and activation each, then one pooling
    labels, inputs = shapes["classifier.weight"]
    return described(arch, {"features": widths}) | {
        "num_labels": labels,
        "num_channels": shapes["features.0.weight"][1],
        "image_size": VGG_SHRINKS * math.isqrt(inputs // widths[-1]),
    }


def _cnn(arch: str, shapes: Shapes) -> Config:
    widths = [shapes[f"features.{place}.weight"][0] for place in (0, 3, 7, 10, 14, 17)]
    hidden = [shapes[f"classifier.{place}.weight"][0] for place in (0, 3)]
    side = math.isqrt(shapes["classifier.0.weight"][1] // widths[-1])
    return described(arch, {"features": widths, "hidden": hidden}) | {
        "num_labels": shapes["classifier.6.weight"][0],
        "num_channels": shapes["features.0.weight"][1],
        "image_size": 4 * (side + 4) + 12,  # convolutions take 4 pixels thrice, poolings halve twice
    }


def _lite(arch: str, shapes: Shapes) -> Config:
    residual, inner, first = [], [], 0
    for _, _, blocks in LITE_STAGES:
        names = [f"_blocks.{first + block}." for block in range(blocks)]
        residual.append(shapes[f"{names[0]}_project_conv.weight"][0])
        inner.append([shapes[f"{name}_expand_conv.weight"][0] if first else None for name in names])
        first += blocks
    stem, channels = shapes["_conv_stem.weight"][:2]
    widths = {"stem": stem, "residual": residual, "inner": inner, "head": shapes["_conv_head.weight"][0]}
    return described(arch, widths) | {"num_labels": shapes["_fc.weight"][0], "num_channels": channels}


READERS = {"cifar_resnet": _resnet, "cifar_vgg": _vgg, "cifar_cnn": _cnn, "efficientnet_lite": _lite}
