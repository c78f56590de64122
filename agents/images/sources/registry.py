"""The registry of image sources: who reads what a user calls a set of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from prunepolicy.agents.images.image_set import Images
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.registry import Registry


class SourceImages(NamedTuple):
    """What a source holds: training images, and the publisher's test images where there are any."""

    name: str
    train: Images
    test: Images | None


class ImageSource(ABC):
    """Reads one layout of files."""

    @classmethod
    @abstractmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether `spelling`, a name or a folder, is of this layout."""

    @classmethod
    @abstractmethod
    def read(cls, spelling: str) -> SourceImages:
        """Read the images.

        Raises:
            PrunePolicyError: when a file is damaged.
        """


image_sources: Registry[type[ImageSource]] = Registry("image source", "prunepolicy.agents.images.sources")


def read_images(spelling: str) -> SourceImages:
    """Read what `spelling` names.

    Raises:
        UsageError: when no source knows it.
    """
    for name in image_sources:
        if image_sources[name].claims(spelling):
            found = image_sources[name].read(spelling)
            _check(found)
            return found
    raise UsageError(
        f"There are no images at {spelling!r}: give fashion-mnist (Debian's package dataset-fashion-mnist), "
        "shapes (made on the spot), or a folder with MNIST's IDX files or CIFAR-10's binary version."
    )


def file_in(folder: Path, *names: str) -> Path | None:
    """Return the first of `names` that lies in `folder`."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _check(found: SourceImages) -> None:
    for images in (found.train, found.test):
        if images is not None and (len(images) == 0 or len(images.pixels) != len(images.labels)):
            raise PrunePolicyError(
                f"{found.name} has {len(images.pixels):,} images and {len(images.labels):,} labels."
            )
