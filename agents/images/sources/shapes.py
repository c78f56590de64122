"""Small images made on the spot: four classes of noisy shapes, for tests and for trying out."""

from __future__ import annotations

import torch
from torch import Tensor

from prunepolicy.agents.images.image_set import Images
from prunepolicy.agents.images.sources.registry import ImageSource, SourceImages, image_sources

NAME = "shapes"
SIDE, COUNT = 8, 1024
NOISE = 60


@image_sources.register
class Shapes(ImageSource):
    """Bars, columns, squares and crosses at random places, under noise."""

    @classmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether it is `shapes`."""
        return spelling == NAME

    @classmethod
    def read(cls, spelling: str) -> SourceImages:
        """Draw the images, the same ones every time."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(4, (COUNT,), generator=generator)
        shifts = torch.randint(SIDE, (COUNT, 2), generator=generator).tolist()
        clean = torch.stack(
            [_shape(int(k)).roll(tuple(s), (0, 1)) for k, s in zip(labels, shifts, strict=True)]
        )
        noisy = 190 * clean + NOISE * torch.randn(clean.shape, generator=generator)
        pixels = (noisy + 30).clamp(0, 255).to(torch.uint8)
        return SourceImages(NAME, Images(pixels[:, None], labels), None)


def _shape(label: int) -> Tensor:
    image = torch.zeros(SIDE, SIDE)
    if label in (0, 3):
        image[SIDE // 2, 1:-1] = 1
    if label in (1, 3):
        image[1:-1, SIDE // 2] = 1
    if label == 2:
        image[2:-2, 2:-2] = 1
    return image
