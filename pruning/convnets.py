"""ResNet and VGG for small images in plain torch, with any number of channels in any layer.

The file stands alone: a pruned network carries a copy of it, and then loads without anything else
of this project.

    from modeling_convnet import load
    model = load("folder")
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

Config = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
Widths = dict[str, Any]

STAGES = 3
VGG_STAGES = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
VGG_CHANNELS = (64, 128, 256, 512, 512)
VGG_SHRINKS = 2 ** len(VGG_CHANNELS)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: a 1x1 convolution where the image shrinks, else identity."""

    def __init__(self, before: int, inner: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, inner, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            shortcut = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(after))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (batch, before, height, width) to (batch, after, height / stride, width / stride)."""
        inner = self.bn1(self.conv1(hidden)).relu()
        output: Tensor = (self.bn2(self.conv2(inner)) + self.downsample(hidden)).relu()
        return output


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44, 56, 110: three stages of basic blocks (He et al., 2015, section 4.2)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        residual, inner = config["widths"]["residual"], config["widths"]["inner"]
        self.conv1 = nn.Conv2d(config["num_channels"], residual[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(residual[0])
        for stage in range(STAGES):
            blocks = [
                BasicBlock(
                    before=residual[stage - 1 if block == 0 and stage else stage],
                    inner=width,
                    after=residual[stage],
                    stride=2 if block == 0 and stage else 1,
                )
                for block, width in enumerate(inner[stage])
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(residual[-1], config["num_labels"])

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map images, shape (batch, channels, height, width), to logits, shape (batch, labels)."""
        hidden = self.bn1(self.conv1(pixel_values)).relu()
        for stage in range(STAGES):
            hidden = self.get_submodule(f"layer{stage + 1}")(hidden)
        logits: Tensor = self.fc(hidden.mean((2, 3)))
        return logits


class CifarVgg(nn.Module):
    """VGG with batch normalisation and one linear layer (Simonyan and Zisserman, 2014, for CIFAR)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        layers: list[nn.Module] = []
        channels, widths = config["num_channels"], iter(config["widths"]["features"])
        for depth in VGG_STAGES[config["arch"]]:
            for width in (next(widths) for _ in range(depth)):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        side = config["image_size"] // VGG_SHRINKS
        self.classifier = nn.Linear(channels * side**2, config["num_labels"])

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map images, shape (batch, channels, height, width), to logits, shape (batch, labels)."""
        logits: Tensor = self.classifier(self.features(pixel_values).flatten(1))
        return logits


def build(config: Config) -> nn.Module:
    """Return the network that `config` describes, with random weights.

    `arch` alone is enough; what else is missing has the published value.
    """
    arch = config["arch"]
    whole = _described(arch, standard_widths(arch)) | config
    model = CifarVgg(whole) if arch in VGG_STAGES else CifarResNet(whole)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def load(folder: str | Path) -> nn.Module:
    """Return the network saved in `folder`, ready to run."""
    from safetensors.torch import load_file

    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    model = build(config)
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval()


def save(model: nn.Module, folder: str | Path) -> None:
    """Write weights and configuration of a network that `build` made into `folder`."""
    from safetensors.torch import save_file

    Path(folder).mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, Path(folder) / "model.safetensors", metadata={"format": "pt"})
    (Path(folder) / "config.json").write_text(
        json.dumps(vars(model.config), indent=2) + "\n", encoding="utf-8"
    )


def config_for(arch: str, shapes: Shapes) -> Config:
    """Return the configuration of weights that come without one, read from their shapes.

    Raises:
        ValueError: when the weights are not those of `arch`.
    """
    try:
        return _vgg_config(arch, shapes) if arch in VGG_STAGES else _resnet_config(arch, shapes)
    except KeyError as error:
        raise ValueError(f"The weights are not those of {arch}: {error} is missing.") from error


def standard_widths(arch: str) -> Widths:
    """Return the published widths of `arch`."""
    if arch in VGG_STAGES:
        pairs = zip(VGG_STAGES[arch], VGG_CHANNELS, strict=True)
        return {"features": [width for depth, width in pairs for _ in range(depth)]}
    residual = [16, 32, 64]
    return {"residual": residual, "inner": [[width] * resnet_blocks(arch) for width in residual]}


def resnet_blocks(arch: str) -> int:
    """Return the number of blocks per stage: a CIFAR ResNet of depth d has (d - 2) / 6.

    Raises:
        ValueError: when `arch` names no such network.
    """
    depth = arch.removeprefix("resnet")
    if not (arch.startswith("resnet") and depth.isdigit() and int(depth) > 2 and int(depth) % 6 == 2):
        known = ", ".join(["resnet20, resnet32, resnet56 (any depth 6n + 2)", *VGG_STAGES])
        raise ValueError(f"Unknown convolution network {arch!r}. Known: {known}.")
    return (int(depth) - 2) // 6


def _resnet_config(arch: str, shapes: Shapes) -> Config:
    blocks = range(resnet_blocks(arch))
    stages = [f"layer{stage + 1}" for stage in range(STAGES)]
    widths = {
        "residual": [shapes[f"{stage}.0.conv2.weight"][0] for stage in stages],
        "inner": [[shapes[f"{stage}.{block}.conv1.weight"][0] for block in blocks] for stage in stages],
    }
    sizes = {"num_labels": shapes["fc.weight"][0], "num_channels": shapes["conv1.weight"][1]}
    return _described(arch, widths) | sizes


def _vgg_config(arch: str, shapes: Shapes) -> Config:
    widths, index = [], 0
    for depth in VGG_STAGES[arch]:
        widths += [shapes[f"features.{index + 3 * layer}.weight"][0] for layer in range(depth)]
        index += 3 * depth + 1  # convolution, norm and activation each, then one pooling
    labels, inputs = shapes["classifier.weight"]
    return _described(arch, {"features": widths}) | {
        "num_labels": labels,
        "num_channels": shapes["features.0.weight"][1],
        "image_size": VGG_SHRINKS * math.isqrt(inputs // widths[-1]),
    }


def _described(arch: str, widths: Widths) -> Config:
    is_vgg = arch in VGG_STAGES
    return {
        "model_type": "cifar_vgg" if is_vgg else "cifar_resnet",
        "architectures": ["CifarVgg" if is_vgg else "CifarResNet"],
        "arch": arch,
        "widths": widths,
        "num_labels": 10,
        "num_channels": 3,
        "image_size": 32,
    }
