"""Labelled images in three parts: training, validation and test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from prunepolicy.pruning.errors import UsageError

Batch = dict[str, Tensor]
"""`pixel_values`, shape (batch, channels, side, side), and `labels`."""
FLAT = 1e-3
"""Standard deviation below which a channel counts as constant."""


@dataclass(frozen=True)
class Images:
    """Images and their labels.

    Attributes:
        pixels: bytes, shape (count, channels, side, side).
        labels: class numbers, shape (count,).
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Images:
        """Return the images at `indices`."""
        return Images(self.pixels[indices], self.labels[indices])

    def shrunk(self, side: int) -> Images:
        """Return the images at a smaller side, each pixel the mean of what it covers."""
        if side == self.pixels.shape[-1]:
            return self
        pixels = torch.cat([_averaged(part, side) for part in self.pixels.split(4096)])
        return Images(pixels, self.labels)


@dataclass(frozen=True)
class ImageSet:
    """Images in parts that share no image.

    Attributes:
        name: of the source, and what was taken of it, for reports.
        train: to learn on.
        validation: to choose among what was learned.
        test: for the end; nothing is chosen on it.
        mean: of the training part's pixels, per channel, between 0 and 1.
        deviation: their standard deviation.
    """

    name: str
    train: Images
    validation: Images
    test: Images
    mean: Tensor
    deviation: Tensor

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.train.labels.max()) + 1

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for coloured ones."""
        return int(self.train.pixels.shape[1])

    @property
    def side(self) -> int:
        """Pixels of an edge."""
        return int(self.train.pixels.shape[-1])

    def batch(self, images: Images) -> Batch:
        """Return images as a network gets them, of mean 0 and deviation 1 per channel."""
        scaled = images.pixels.float() / 255
        centred = (scaled - self.mean[:, None, None]) / self.deviation[:, None, None]
        return {"pixel_values": centred, "labels": images.labels}

    def batches(self, images: Images, size: int) -> Iterator[Batch]:
        """Yield all of `images` in their order."""
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            yield self.batch(Images(images.pixels[part], images.labels[part]))


def split(
    name: str,
    train_images: Images,
    test_images: Images | None,
    sizes: tuple[int | None, int | None, int | None],
) -> ImageSet:
    """Split images deterministically, whatever the seed of a run: all runs have one test part.

    Args:
        train_images: as their publisher split them.
        test_images: None takes the last of the shuffled `train_images`.
        sizes: of the parts; None takes what is left for training, a tenth for validation, and as a test all
            of `test_images` or a fifth of `train_images`.

    Raises:
        UsageError: when there are too few images.
    """
    train, validation, test = sizes
    order = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(0))
    if test_images is None:
        held = test or len(train_images) // 5
        test_images, order = train_images.take(order[len(order) - held :]), order[: len(order) - held]
        test = None
    validation = len(order) // 10 if validation is None else validation
    train = len(order) - validation if train is None else train
    if train + validation > len(order) or (test or 0) > len(test_images):
        raise UsageError(
            f"{name} has {len(order):,} training images and {len(test_images):,} test images, fewer "
            f"than {train:,} + {validation:,} and {test or len(test_images):,}."
        )
    learned = train_images.take(order[:train])
    mean, deviation = _moments(learned.pixels)
    chosen = train_images.take(order[train : train + validation])
    tested = test_images if test is None else test_images.take(torch.arange(test))
    return ImageSet(name, learned, chosen, tested, mean, deviation)


def shrunk(images: ImageSet, side: int) -> ImageSet:
    """Return the same images at a smaller side."""
    if not 0 < side <= images.side:
        raise UsageError(
            f"{images.name} has images of {images.side} pixels; a side of {side} is not in them."
        )
    parts = {part: getattr(images, part).shrunk(side) for part in ("train", "validation", "test")}
    mean, deviation = _moments(parts["train"].pixels)
    return replace(images, **parts, mean=mean, deviation=deviation)


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    scaled = pixels.double().movedim(1, 0).flatten(1) / 255
    return scaled.mean(1).float(), scaled.std(1).clamp(min=FLAT).float()


def _averaged(pixels: Tensor, side: int) -> Tensor:
    return functional.adaptive_avg_pool2d(pixels.float(), side).round().to(torch.uint8)
