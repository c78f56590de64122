"""Convolution networks in plain torch, with any number of channels in any layer.

The file stands alone: a pruned network carries a copy of it, and then loads without anything else
of this project.

    from modeling_convnet import load
    model = load("folder")
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

Config = dict[str, Any]
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
CNN = "cnn6"
LITE = "efficientnet-lite0"
LITE_STAGES = ((3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 2, 3), (5, 1, 3), (5, 2, 4), (3, 1, 1))
"""Kernel, stride and number of blocks of every stage."""
LITE_EXPANDS = 6
KERAS_EPSILON = 1e-3
"""Of the norms of networks that were trained with Keras or TensorFlow."""


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
            layers.append(nn.MaxPool2d(2, ceil_mode=True))  # small images end with one pixel, not with none
        self.features = nn.Sequential(*layers)
        side = -(-config["image_size"] // VGG_SHRINKS)
        self.classifier = nn.Linear(channels * side**2, config["num_labels"])

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map images, shape (batch, channels, height, width), to logits, shape (batch, labels)."""
        logits: Tensor = self.classifier(self.features(pixel_values).flatten(1))
        return logits


class CifarCnn(nn.Module):
    """Three pairs of unpadded 3x3 convolutions, norms after the activations, and three linear layers.

    Weights: the package cifar-10-model. Its last activation is left out, which only hides the order of
    negative logits.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        layers: list[nn.Module] = []
        channels, side = config["num_channels"], config["image_size"]
        for place, width in enumerate(config["widths"]["features"]):
            if place in (2, 4):
                layers.append(nn.MaxPool2d(2))
                side //= 2
            layers += [nn.Conv2d(channels, width, 3), nn.ReLU(), nn.BatchNorm2d(width, KERAS_EPSILON)]
            channels, side = width, side - 2
        if side < 1:
            raise ValueError(f"{CNN} needs larger images than {config['image_size']} pixels: 32 or more.")
        first, second = config["widths"]["hidden"]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(channels * side**2, first), nn.ReLU(), nn.Dropout(0.2)),
            *(nn.Linear(first, second), nn.ReLU(), nn.Dropout(0.2)),
            nn.Linear(second, config["num_labels"]),
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map images, shape (batch, channels, height, width), to logits, shape (batch, labels)."""
        logits: Tensor = self.classifier(self.features(pixel_values).flatten(1))
        return logits


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does it: at the far edges, where the stride leaves a choice."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (batch, before, height, width) to (batch, after, height / stride, width / stride)."""
        edges = []
        for side in (hidden.shape[3], hidden.shape[2]):
            missing = max(0, (-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side)
            edges += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(hidden, edges) if any(edges) else hidden)


class InvertedBlock(nn.Module):
    """Expand by a 1x1 convolution, filter every channel by itself, project; a shortcut between equals."""

    def __init__(
        self, before: int, inner: int | None, after: int, kernel: int, stride: int, adds: bool
    ) -> None:
        super().__init__()
        self.adds, self.expands, width = adds, inner is not None, inner or before
        if self.expands:
            self._expand_conv = SameConv(before, width, 1)
            self._bn0 = nn.BatchNorm2d(width, KERAS_EPSILON)
        self._depthwise_conv = SameConv(width, width, kernel, stride, groups=width)
        self._bn1 = nn.BatchNorm2d(width, KERAS_EPSILON)
        self._project_conv = SameConv(width, after, 1)
        self._bn2 = nn.BatchNorm2d(after, KERAS_EPSILON)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (batch, before, height, width) to (batch, after, height / stride, width / stride)."""
        inner = functional.relu6(self._bn0(self._expand_conv(hidden))) if self.expands else hidden
        inner = functional.relu6(self._bn1(self._depthwise_conv(inner)))
        output: Tensor = self._bn2(self._project_conv(inner))
        return output + hidden if self.adds else output


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 (Tan and Le, 2019, without squeeze-and-excitation and with ReLU6).

    Tensors are named as in the package efficientnet-lite-pytorch, so that its weights load as they are.
    Dropout and stochastic depth are left out.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        widths = config["widths"]
        channels, blocks = widths["stem"], []
        self._conv_stem = SameConv(config["num_channels"], channels, 3, 2)
        self._bn0 = nn.BatchNorm2d(channels, KERAS_EPSILON)
        for (kernel, stride, _), after, inner in zip(
            LITE_STAGES, widths["residual"], widths["inner"], strict=True
        ):
            for place, width in enumerate(inner):
                again = place > 0
                blocks.append(InvertedBlock(channels, width, after, kernel, 1 if again else stride, again))
                channels = after
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(channels, widths["head"], 1)
        self._bn1 = nn.BatchNorm2d(widths["head"], KERAS_EPSILON)
        self._fc = nn.Linear(widths["head"], config["num_labels"])

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map images, shape (batch, channels, height, width), to logits, shape (batch, labels)."""
        hidden = functional.relu6(self._bn0(self._conv_stem(pixel_values)))
        for block in self._blocks:
            hidden = block(hidden)
        hidden = functional.relu6(self._bn1(self._conv_head(hidden)))
        logits: Tensor = self._fc(hidden.mean((2, 3)))
        return logits


NETWORKS: dict[str, type[nn.Module]] = {
    "cifar_resnet": CifarResNet,
    "cifar_vgg": CifarVgg,
    "cifar_cnn": CifarCnn,
    "efficientnet_lite": EfficientNetLite,
}
"""By `model_type`."""


def build(config: Config) -> nn.Module:
    """Return the network that `config` describes, with random weights.

    `arch` alone is enough; what else is missing has the published value.
    """
    whole = described(config["arch"]) | config
    model = NETWORKS[whole["model_type"]](whole)
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


def described(arch: str, widths: Widths | None = None) -> Config:
    """Return the configuration of `arch`: published, or of other widths.

    Raises:
        ValueError: when `arch` names no such network.
    """
    kind = family_of(arch)
    return {
        "model_type": kind,
        "architectures": [NETWORKS[kind].__name__],
        "arch": arch,
        "widths": widths or standard_widths(arch),
        "num_labels": 1000 if arch == LITE else 10,
        "num_channels": 3,
        "image_size": 224 if arch == LITE else 32,
    }


def family_of(arch: str) -> str:
    """Return the `model_type` of `arch`."""
    if arch in VGG_STAGES:
        return "cifar_vgg"
    return {CNN: "cifar_cnn", LITE: "efficientnet_lite"}.get(arch, "cifar_resnet")


def standard_widths(arch: str) -> Widths:
    """Return the published widths of `arch`."""
    if arch in VGG_STAGES:
        pairs = zip(VGG_STAGES[arch], VGG_CHANNELS, strict=True)
        return {"features": [width for depth, width in pairs for _ in range(depth)]}
    if arch == CNN:
        return {"features": [64, 64, 128, 128, 64, 64], "hidden": [1024, 512]}
    if arch == LITE:
        residual = [16, 24, 40, 80, 112, 192, 320]
        before = [32, *residual]
        inner: list[list[int | None]] = [
            [LITE_EXPANDS * width for width in (before[stage], *[residual[stage]] * (blocks - 1))]
            for stage, (_, _, blocks) in enumerate(LITE_STAGES)
        ]
        inner[0] = [None]  # nothing is expanded before the first filter
        return {"stem": 32, "residual": residual, "inner": inner, "head": 1280}
    residual = [16, 32, 64]
    return {"residual": residual, "inner": [[width] * resnet_blocks(arch) for width in residual]}


def resnet_blocks(arch: str) -> int:
    """Return the number of blocks per stage: a CIFAR ResNet of depth d has (d - 2) / 6.

    Raises:
        ValueError: when `arch` names no such network.
    """
    depth = arch.removeprefix("resnet")
    if not (arch.startswith("resnet") and depth.isdigit() and int(depth) > 2 and int(depth) % 6 == 2):
        known = ", ".join(["resnet20, resnet32, resnet56 (any depth 6n + 2)", *VGG_STAGES, CNN, LITE])
        raise ValueError(f"Unknown convolution network {arch!r}. Known: {known}.")
    return (int(depth) - 2) // 6
