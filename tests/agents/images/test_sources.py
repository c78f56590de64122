"""Image files are read, split the same way every time, and refused when they are damaged."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from prunepolicy.agents.images.image_set import Images, shrunk, split
from prunepolicy.agents.images.sources import read_images
from prunepolicy.agents.images.task import ImageRecipe
from prunepolicy.pruning.errors import PrunePolicyError, UsageError


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, count: int = 20, packed: bool = True) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 6), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 3
    for part in ("train", "t10k"):
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
            data = idx(array)
            file = folder / (f"{name}.gz" if packed else name)
            file.write_bytes(gzip.compress(data) if packed else data)
    return pixels


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_hold_what_was_written(packed: bool, tmp_path: Path) -> None:
    pixels = write_mnist(tmp_path, packed=packed)
    found = read_images(str(tmp_path))
    assert torch.equal(found.train.pixels[:, 0], torch.from_numpy(pixels))
    assert found.train.labels.tolist() == [k % 3 for k in range(20)]
    assert found.test is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: bytes((0, 0, 9, 3)) + data[4:],
        lambda data: data[:4] + struct.pack(">3I", 2**31, 2**31, 6) + data[16:],
        lambda data: b"",
        lambda data: b"\x80\x04pickle",
    ],
)
def test_a_damaged_idx_file_is_refused_in_one_sentence(damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_mnist(tmp_path, packed=False)
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PrunePolicyError, match="train-images"):
        read_images(str(tmp_path))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "train-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(PrunePolicyError, match="train-labels"):
        read_images(str(tmp_path))


def test_cifar_test_images_alone_are_split_and_say_so(tmp_path: Path) -> None:
    records = np.random.default_rng(0).integers(0, 10, (30, 3073), dtype=np.uint8)
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    alone = ImageRecipe(source=str(tmp_path), train=10, validation=10).open(torch.device("cpu")).images
    assert "test images" in alone.name
    assert (len(alone.train), len(alone.validation), len(alone.test)) == (10, 10, 6)
    (tmp_path / "data_batch_1.bin").write_bytes(records[:20].tobytes())
    whole = ImageRecipe(source=str(tmp_path), train=10, validation=10).open(torch.device("cpu")).images
    assert (whole.name, len(whole.test)) == ("CIFAR-10", 30)
    assert torch.equal(whole.test.pixels.flatten(), torch.from_numpy(records[:, 1:].copy()).flatten())
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes()[:-1])
    with pytest.raises(PrunePolicyError, match="no number of CIFAR-10 records"):
        read_images(str(tmp_path))


def test_parts_share_no_image_and_are_the_same_every_time() -> None:
    images = Images(torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1), torch.arange(100) % 5)
    first, second = (split("numbers", images, None, (50, 20, None)) for _ in range(2))
    parts = [part.pixels.flatten().tolist() for part in (first.train, first.validation, first.test)]
    assert [len(part) for part in parts] == [50, 20, 20]
    assert len(set().union(*parts)) == 90
    assert torch.equal(first.train.pixels, second.train.pixels)
    with pytest.raises(UsageError, match="numbers has 80 training images"):
        split("numbers", images, None, (70, 20, None))


def test_smaller_images_are_means_and_larger_ones_are_refused() -> None:
    pixels = torch.tensor([[0, 100], [200, 100]], dtype=torch.uint8).expand(30, 1, 2, 2)
    images = split("squares", Images(pixels.contiguous(), torch.arange(30) % 2), None, (10, 5, None))
    assert shrunk(images, 1).train.pixels.unique().tolist() == [100]
    with pytest.raises(UsageError, match="a side of 3"):
        shrunk(images, 3)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    task = ImageRecipe(source="shapes", train=256, validation=64).open(torch.device("cpu"))
    drawn = [list(task.batches(64, seed, epoch)) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert len(drawn[0]) == task.steps(64) == 4
    firsts = [batches[0]["pixel_values"] for batches in drawn]
    assert torch.equal(firsts[0], firsts[1])
    assert not torch.equal(firsts[0], firsts[2])
    assert not torch.equal(firsts[0], firsts[3])


def test_moving_and_mirroring_keep_the_pixels_of_the_inside() -> None:
    task = ImageRecipe(source="shapes", train=256, validation=64, shift=1, flip=False).open(
        torch.device("cpu")
    )
    plain = task.images.batch(task.images.train)["pixel_values"][:32]
    moved = task._varied(plain, torch.Generator().manual_seed(0))
    for before, after in zip(plain, moved, strict=True):
        rolled = [before.roll((row, column), (1, 2)) for row in (-1, 0, 1) for column in (-1, 0, 1)]
        assert any(torch.equal(after[:, 1:-1, 1:-1], one[:, 1:-1, 1:-1]) for one in rolled)


def test_nothing_is_read_that_is_no_set_of_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images at"):
        read_images(str(tmp_path))
