"""Views of a few labelled photos: some to evaluate on, random ones to measure norms and gradients on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from package_networks import photos
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from prunepolicy.agents.recovery.task import Batch, LearningTask, Part

SIDE, WHOLE = 224, 256
"""Pixels of what a network sees, and of a photo's shorter edge."""
DRAWN = 8
"""Random views of every photo."""
READ = 20


@dataclass(frozen=True)
class PhotoTask(LearningTask):
    """Judges classifiers of ImageNet by the photos of a package.

    Attributes:
        drawn: random views, shape (photos * DRAWN, 3, SIDE, SIDE).
        views: centre and corners of every photo, shape (5, photos, 3, SIDE, SIDE).
        labels: of the photos.
    """

    device: torch.device
    drawn: Tensor
    views: Tensor
    labels: Tensor

    @classmethod
    def opened(cls, cache: Path) -> Self:
        """Fetch the photos and cut the views."""
        images, labels = zip(*photos(cache), strict=True)
        whole, generator = [scaled(image) for image in images], torch.Generator().manual_seed(0)
        drawn = torch.stack([random_view(pixels, generator) for pixels in whole for _ in range(DRAWN)])
        views = torch.stack([torch.stack(fixed_views(pixels)) for pixels in whole], dim=1)
        return cls(torch.device("cpu"), drawn, views, torch.tensor(labels))

    def steps(self, size: int) -> int:
        """Return the number of full batches of random views."""
        return max(1, len(self.drawn) // size)

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield shuffled random views."""
        order = torch.randperm(len(self.drawn), generator=torch.Generator().manual_seed((seed << 20) + epoch))
        for some in order[: self.steps(size) * size].split(size):
            yield {"pixel_values": self.drawn[some], "labels": self.labels[some // DRAWN]}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return shape (batch, classes)."""
        logits: Tensor = model(batch["pixel_values"])
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(logits, batch["labels"])

    def score(self, model: nn.Module, part: Part) -> float:
        """Return the accuracy on the photos' centres, whatever the part: there are no others."""
        return float((answers(model, self.views[0]) == self.labels).float().mean())

    def inputs(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield random views."""
        for some in self.drawn.split(size):
            yield {"pixel_values": some}

    def agreement(self, model: nn.Module, other: nn.Module) -> float:
        """Return how often two networks name the same class of a fixed view."""
        views = self.views.flatten(0, 1)
        return float((answers(model, views) == answers(other, views)).float().mean())


@torch.inference_mode()
def answers(model: nn.Module, views: Tensor) -> Tensor:
    """Return the classes that a network names."""
    return torch.cat([model.eval()(some).argmax(1) for some in views.split(READ)])


def scaled(image: Image.Image) -> Tensor:
    """Return a photo's colours between -1 and 1, its shorter edge of `WHOLE` pixels."""
    share = WHOLE / min(image.size)
    size = (round(image.width * share), round(image.height * share))
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    return (torch.from_numpy(pixels).permute(2, 0, 1) - 127) / 128


def fixed_views(pixels: Tensor) -> list[Tensor]:
    """Return centre and corners."""
    down, right = pixels.shape[1] - SIDE, pixels.shape[2] - SIDE
    places = [(down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)]
    return [pixels[:, row : row + SIDE, column : column + SIDE] for row, column in places]


def random_view(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Return a view from anywhere, mirrored half of the time."""
    down, right = pixels.shape[1] - SIDE, pixels.shape[2] - SIDE
    row, column = (int(torch.randint(room + 1, (), generator=generator)) for room in (down, right))
    view = pixels[:, row : row + SIDE, column : column + SIDE]
    return view.flip(2) if torch.rand((), generator=generator) < 0.5 else view
