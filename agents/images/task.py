"""Image classification as a task: augmented batches, cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from prunepolicy.agents.images.image_set import ImageSet, shrunk, split
from prunepolicy.agents.images.sources import read_images
from prunepolicy.agents.recovery.task import Batch, LearningTask, Part, logits_of
from prunepolicy.pruning.io.config import StrictConfig
from prunepolicy.pruning.measure.intervals import Interval, share_interval

READ = 512
"""Images per batch where nothing is learned."""


class ImageRecipe(StrictConfig):
    """Which images, and how they vary.

    Attributes:
        source: `fashion-mnist`, `shapes`, or a folder with IDX files or CIFAR-10's binary version.
        side: pixels of an edge, at most the source's; None leaves it.
        train: training images; None takes what is left.
        validation: validation images; None takes a tenth.
        test: test images; None takes all there are.
        shift: pixels by which training images move at most.
        flip: mirror half of the training images.
    """

    source: str
    side: int | None = Field(default=None, ge=1)
    train: int | None = Field(default=None, ge=1)
    validation: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    shift: int = Field(default=1, ge=0)
    flip: bool = True

    def open(self, device: torch.device) -> ImageTask:
        """Read the images and split them.

        Raises:
            PrunePolicyError: when there are none, or too few.
        """
        found = read_images(self.source)
        images = split(found.name, found.train, found.test, (self.train, self.validation, self.test))
        images = images if self.side is None else shrunk(images, self.side)
        return ImageTask(images, device, self.shift, self.flip)


@dataclass(frozen=True)
class ImageTask(LearningTask):
    """Training and evaluation on an image set."""

    images: ImageSet
    device: torch.device
    shift: int = 0
    flip: bool = False

    def steps(self, size: int) -> int:
        """Return the number of full batches."""
        return max(1, len(self.images.train) // size)

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield shuffled, moved and mirrored images; what fills no batch is left out."""
        generator = torch.Generator().manual_seed((seed << 20) + epoch)
        order = torch.randperm(len(self.images.train), generator=generator)
        for step in range(self.steps(size)):
            batch = self.images.batch(self.images.train.take(order[step * size : (step + 1) * size]))
            batch["pixel_values"] = self._varied(batch["pixel_values"], generator)
            yield self._placed(batch)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return shape (batch, classes)."""
        return logits_of(model(batch["pixel_values"])).float()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(logits, batch["labels"])

    @torch.no_grad()
    def outcomes(self, model: nn.Module, part: Part) -> Tensor:
        """Return 1 for every image that is named rightly, 0 for others; their mean is the accuracy."""
        model.eval()
        batches = map(self._placed, self.images.batches(getattr(self.images, part), READ))
        right = [self.logits(model, batch).argmax(1) == batch["labels"] for batch in batches]
        return torch.cat(right).double().cpu()

    def difference(self, before: Tensor, after: Tensor) -> Interval:
        """Return the interval of the difference between two accuracies."""
        return share_interval(before, after)

    def inputs(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield `pixel_values` of training images in their order."""
        for batch in self.images.batches(self.images.train, size):
            yield {"pixel_values": self._placed(batch)["pixel_values"]}

    def _placed(self, batch: Batch) -> Batch:
        pixels = batch["pixel_values"]
        # One channel may have any stride, and convolutions read a memory order from it.
        plain = pixels.flatten().view(pixels.shape)
        return {"pixel_values": plain.to(self.device), "labels": batch["labels"].to(self.device)}

    def _varied(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        count = len(pixels)
        if self.flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        if self.shift:
            by = torch.randint(2 * self.shift + 1, (2, count), generator=generator)
            pixels = _moved(pixels, by, self.shift)
        return pixels


def _moved(pixels: Tensor, by: Tensor, most: int) -> Tensor:
    """Return every image moved by its own number of pixels along both axes; edges are repeated."""
    count, side = len(pixels), pixels.shape[-1]
    padded = functional.pad(pixels, (most,) * 4, mode="replicate").movedim(1, 3)
    places = torch.arange(side)
    rows, columns = (by[axis][:, None] + places for axis in (0, 1))
    moved = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.movedim(3, 1)
