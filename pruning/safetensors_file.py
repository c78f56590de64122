"""Read and write safetensors files tensor by tensor, without mapping them into memory.

Mapped pages count as resident memory and an overwritten map turns into zeros; plain reads do
neither. Headers come from outside and are checked before anything is believed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from prunepolicy.pruning.errors import BadCheckpointError

MAX_HEADER = 100_000_000
CHUNK = 16 << 20
DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies on disk.

    Attributes:
        start: absolute offset of its first byte in `file`.
        nbytes: its length in bytes.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def read(self) -> torch.Tensor:
        """Read the tensor into fresh memory.

        Raises:
            BadCheckpointError: when the file ends early or can't be read.
        """
        buffer = bytearray(self.nbytes)
        view = memoryview(buffer)
        try:
            with open(self.file, "rb", buffering=0) as file:
                file.seek(self.start)
                done = 0
                while done < len(buffer):
                    count = file.readinto(view[done : done + CHUNK])
                    if not count:
                        raise BadCheckpointError(f"{self.file.name} ends inside {self.name!r}.")
                    done += count
        except OSError as error:
            raise BadCheckpointError(f"Can't read {self.file}: {error.strerror or error}.") from error
        if not buffer:
            return torch.empty(self.shape, dtype=DTYPES[self.dtype])
        return torch.frombuffer(buffer, dtype=DTYPES[self.dtype]).reshape(self.shape)


def read_header(file: Path) -> list[TensorEntry]:
    """Return the tensors of a safetensors file in file order, after checking its header.

    Raises:
        BadCheckpointError: when the header is too long, no JSON, names unknown types, or its
            offsets don't cover the file without holes and overlaps.
    """
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(MAX_HEADER, size - 8):
                raise BadCheckpointError(f"{file.name} is truncated or no safetensors file.")
            header = json.loads(stream.read(length), object_pairs_hook=_no_duplicates)
    except OSError as error:
        raise BadCheckpointError(f"Can't read {file}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise BadCheckpointError(f"{file.name} has a damaged header: {error}.") from error
    entries = list(_entries(file, header, 8 + length))
    entries.sort(key=lambda entry: entry.start)
    _check_coverage(file, entries, 8 + length, size)
    return entries


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a name appears twice")
    return dict(pairs)


def _entries(file: Path, header: Any, base: int) -> Iterator[TensorEntry]:
    if not isinstance(header, dict):
        raise BadCheckpointError(f"{file.name} has a damaged header: not an object.")
    for name, info in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (start, stop) = info["dtype"], tuple(info["shape"]), info["data_offsets"]
            integers = all(type(n) is int and n >= 0 for n in (*shape, start, stop))
        except (KeyError, TypeError, ValueError):
            integers = False
        if not integers:
            raise BadCheckpointError(f"{file.name} describes {name!r} in a damaged way.")
        if dtype not in DTYPES:
            raise BadCheckpointError(f"{file.name} stores {name!r} as {dtype!r}, an unknown type.")
        entry = TensorEntry(file, name, dtype, shape, base + start)
        if entry.nbytes != stop - start:
            raise BadCheckpointError(f"{file.name} gives {name!r} a size that doesn't fit its shape.")
        yield entry


def _check_coverage(file: Path, entries: list[TensorEntry], base: int, size: int) -> None:
    place = base
    for entry in entries:
        if entry.start != place:
            raise BadCheckpointError(f"{file.name} has a hole or an overlap before {entry.name!r}.")
        place += entry.nbytes
    if place != size:
        state = "truncated" if place > size else "followed by foreign bytes"
        raise BadCheckpointError(f"{file.name} is {state}: {size} bytes, its header says {place}.")


@dataclass(frozen=True)
class TensorHeader:
    """What a file's header says about one tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def header_bytes(headers: Iterable[TensorHeader]) -> bytes:
    """Return the length prefix and header of a file that holds `headers` in this order."""
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for header in headers:
        described[header.name] = {
            "dtype": header.dtype,
            "shape": list(header.shape),
            "data_offsets": [place, place + header.nbytes],
        }
        place += header.nbytes
    text = json.dumps(described, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_file(path: Path, tensors: Iterable[tuple[TensorHeader, torch.Tensor]], header: bytes) -> None:
    """Write a header and its tensors as they come, and flush them to the disk."""
    with open(path, "wb", buffering=0) as file:
        _write_all(file, memoryview(header))
        for described, tensor in tensors:
            if tuple(tensor.shape) != described.shape or NAMES[tensor.dtype] != described.dtype:
                raise ValueError(f"{described.name}: got {tuple(tensor.shape)} {tensor.dtype}")
            _write_all(file, tensor_bytes(tensor))
        os.fsync(file.fileno())


def _write_all(file: BinaryIO, data: memoryview) -> None:
    done = 0
    while done < len(data):
        done += file.write(data[done : done + CHUNK])


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """Return a tensor's bytes, in row-major order."""
    if tensor.numel() == 0:
        return memoryview(b"")
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data
