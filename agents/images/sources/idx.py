"""MNIST's IDX files, gzipped or not: MNIST, Fashion-MNIST, KMNIST.

Source of the format: LeCun, Cortes and Burges, "The MNIST database": two zero bytes, the element type, the
number of dimensions, their sizes as big-endian 32-bit integers, then the elements.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunepolicy.agents.images.image_set import Images
from prunepolicy.agents.images.sources.registry import ImageSource, SourceImages, file_in, image_sources
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.bounded import open_regular

FASHION_MNIST = "fashion-mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts its files."""
BYTES = 0x08
MOST_BYTES = 1 << 30


@image_sources.register
class Idx(ImageSource):
    """Two files per part: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and those of `t10k`."""

    @classmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether it is `fashion-mnist`, or a folder with such files."""
        return spelling == FASHION_MNIST or _file(Path(spelling), "train", "images") is not None

    @classmethod
    def read(cls, spelling: str) -> SourceImages:
        """Read both parts; the second may be missing."""
        folder = DEBIAN if spelling == FASHION_MNIST else Path(spelling)
        learn = _part(folder, "train")
        if learn is None:
            raise UsageError(
                f"There are no IDX files in {folder}: `apt install dataset-fashion-mnist`, or give a folder."
            )
        return SourceImages(folder.name, learn, _part(folder, "t10k"))


def read_idx(file: Path, dimensions: int) -> Tensor:
    """Read a file of bytes with so many dimensions.

    Raises:
        PrunePolicyError: when the header is another one, or sizes don't agree with it.
    """
    try:
        with open_regular(file) as packed:
            stream = gzip.open(packed) if file.suffix == ".gz" else packed
            header = stream.read(4 + 4 * dimensions)
            shape = _shape(header, dimensions)
            data = stream.read(math.prod(shape) + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise PrunePolicyError(f"Can't read {file}: {error}.") from error
    if len(data) != math.prod(shape):
        raise PrunePolicyError(f"{file} holds more or fewer bytes than its header's {shape} says.")
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy()).view(shape)


def _shape(header: bytes, dimensions: int) -> tuple[int, ...]:
    if header[:4] != bytes((0, 0, BYTES, dimensions)) or len(header) != 4 + 4 * dimensions:
        raise ValueError(f"it is no IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if math.prod(shape) > MOST_BYTES:
        raise ValueError(f"its header says {shape}, more than any set of small images")
    return shape


def _part(folder: Path, part: str) -> Images | None:
    pixels, labels = (_file(folder, part, what) for what in ("images", "labels"))
    if pixels is None or labels is None:
        return None
    return Images(read_idx(pixels, 3)[:, None], read_idx(labels, 1).long())


def _file(folder: Path, part: str, what: str) -> Path | None:
    name = f"{part}-{what}-idx{3 if what == 'images' else 1}-ubyte"
    return file_in(folder, f"{name}.gz", name, name.replace("-idx", ".idx"))
