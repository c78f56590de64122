"""Plain convolution networks: rebuilt from widths, from bare weights, and without this package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.convnets.shapes import config_for

RESNET = {"arch": "resnet14", "widths": {"residual": [6, 8, 12], "inner": [[5, 3], [9, 4], [8, 7]]}}
VGG = {"arch": "vgg13", "widths": {"features": [4, 6, 5, 8, 7, 6, 8, 5, 6, 7]}, "image_size": 64}
CNN = {"arch": "cnn6", "widths": {"features": [4, 6, 5, 8, 7, 6], "hidden": [9, 8]}, "image_size": 36}
LITE = adapters["efficientnet_lite"].tiny() | {"image_size": 224}


def random_net(config: dict[str, Any]) -> torch.nn.Module:
    model = convnets.build(config)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model.eval()


def logits(model: torch.nn.Module, side: int) -> torch.Tensor:
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize(
    ("arch", "count"), [("resnet20", 272_474), ("resnet56", 855_770), ("efficientnet-lite0", 4_652_008)]
)
def test_standard_networks_have_the_published_size(arch: str, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in convnets.build({"arch": arch}).parameters()) == count


def test_vgg_19_has_its_nineteen_layers() -> None:
    with torch.device("meta"):
        model = convnets.build({"arch": "vgg19"})
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 17  # the two hidden linear layers are for large images only
    assert model.config.widths["features"][-1] == 512


@pytest.mark.parametrize(("config", "side"), [(RESNET, 32), (VGG, 64), (CNN, 36), (LITE, 224)])
def test_bare_weights_and_an_arch_name_are_enough(config: dict[str, Any], side: int, tmp_path: Path) -> None:
    model = random_net(config | {"num_labels": 7})
    convnets.save(model, tmp_path)
    shapes = {name: tuple(t.shape) for name, t in load_file(tmp_path / "model.safetensors").items()}
    assert config_for(config["arch"], shapes) == vars(model.config)
    torch.testing.assert_close(logits(convnets.load(tmp_path), side), logits(model, side))


def test_a_copy_of_the_file_loads_without_this_package(tmp_path: Path) -> None:
    model = random_net(RESNET)
    convnets.save(model, tmp_path)
    shutil.copyfile(convnets.__file__, tmp_path / "modeling_convnet.py")
    program = (
        "import sys, torch; from modeling_convnet import load; "
        "images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)); "
        "print(load('.')(images).double().sum().item(), 'prunepolicy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    total, ours = done.stdout.split()
    assert float(total) == pytest.approx(logits(model, 32).double().sum().item(), abs=1e-4)
    assert ours == "False"


def test_vgg_sees_images_whose_side_no_pooling_halves() -> None:
    small = convnets.build({"arch": "vgg11", "widths": {"features": [4] * 8}, "image_size": 14}).eval()
    assert logits(small, 14).shape == (2, 10)


def test_images_too_small_for_the_convolutions_are_named() -> None:
    with pytest.raises(ValueError, match="larger images than 28 pixels"):
        convnets.build({"arch": "cnn6", "image_size": 28})


def test_unknown_networks_and_foreign_weights_are_named() -> None:
    with pytest.raises(ValueError, match="Known: resnet20"):
        convnets.build({"arch": "resnet21"})
    with pytest.raises(ValueError, match=r"not those of resnet20: 'layer1\.0\.conv2\.weight' is missing"):
        config_for("resnet20", {"fc.weight": (10, 64)})
