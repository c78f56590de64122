"""CIFAR-10's binary version: records of one label and 3,072 bytes of pixels, no pickle.

Source of the format: Krizhevsky, "The CIFAR-10 dataset", section "Binary version".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from prunepolicy.agents.images.image_set import Images
from prunepolicy.agents.images.sources.registry import ImageSource, SourceImages, image_sources
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.bounded import read_bytes, why

SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
CLASSES = 10
MOST_BYTES = 1 << 30
TEST = "test_batch.bin"


@image_sources.register
class CifarBinary(ImageSource):
    """Files `data_batch_1.bin` to `data_batch_5.bin`, and `test_batch.bin`.

    A folder that holds the test images alone is split like any other set, and says so in its name: its
    numbers can't be compared with those of others.
    """

    @classmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether it is a folder with such files."""
        return (Path(spelling) / TEST).is_file()

    @classmethod
    def read(cls, spelling: str) -> SourceImages:
        """Read all files."""
        folder = Path(spelling)
        test = _read([folder / TEST])
        files = sorted(folder.glob("data_batch_*.bin"))
        if not files:
            return SourceImages("CIFAR-10's test images, split", test, None)
        return SourceImages("CIFAR-10", _read(files), test)


def _read(files: list[Path]) -> Images:
    records = np.concatenate([_records(file) for file in files])
    pixels = torch.from_numpy(records[:, 1:].copy()).view(-1, *SHAPE)
    return Images(pixels, torch.from_numpy(records[:, 0].astype(np.int64)))


def _records(file: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    try:
        data = read_bytes(file, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise PrunePolicyError(f"Can't read {file}: {why(error)}.") from error
    if not data or len(data) % RECORD:
        raise PrunePolicyError(f"{file} has {len(data):,} bytes, which is no number of CIFAR-10 records.")
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() >= CLASSES:
        raise PrunePolicyError(f"{file} has labels above {CLASSES - 1}; it is not CIFAR-10's binary version.")
    return records
