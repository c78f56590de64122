"""Read and write safetensors files tensor by tensor, without mapping them into memory.

Mapped pages count as resident memory and an overwritten map turns into zeros; plain reads do
neither. Headers come from outside and are checked before anything is believed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch

from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.io import bounded

MAX_HEADER = 100_000_000
MAX_AXES = 8
MAX_LENGTH = 1 << 48
BLOCK = 2 << 20
DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
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
        return next(self._runs(max(1, self.rows)))

    def blocks(self) -> Iterator[torch.Tensor]:
        """Read the tensor in runs of whole rows, all in one buffer: use each before the next.

        Blocks of a few megabytes stay in the processor's cache while they are checked and cut, and
        keep the memory small whatever the tensor's size.

        Raises:
            BadCheckpointError: when the file ends early or can't be read.
        """
        return self._runs(max(1, BLOCK // max(1, self.nbytes // max(1, self.rows))))

    @property
    def rows(self) -> int:
        """Length of the first axis; 1 for a single number."""
        return self.shape[0] if self.shape else 1

    def _runs(self, rows: int) -> Iterator[torch.Tensor]:
        """Read `rows` rows at a time; a tensor without entries is one empty run."""
        dtype = DTYPES[self.dtype]
        if not self.nbytes:
            yield torch.empty(self.shape, dtype=dtype)
            return
        row_bytes = self.nbytes // self.rows
        buffer = bytearray(min(rows, self.rows) * row_bytes)
        try:
            with open(self.file, "rb", buffering=0) as file:
                file.seek(self.start)
                for first in range(0, self.rows, rows):
                    count = min(rows, self.rows - first)
                    view = memoryview(buffer)[: count * row_bytes]
                    self._fill(file, view)
                    shape = (count, *self.shape[1:]) if self.shape else ()
                    yield torch.frombuffer(view, dtype=dtype).reshape(shape)
        except OSError as error:
            raise BadCheckpointError(f"Can't read {self.file}: {error.strerror or error}.") from error

    def _fill(self, file: FileIO, view: memoryview) -> None:
        done = 0
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                raise BadCheckpointError(f"{self.file.name} ends inside {self.name!r}.")
            done += count


def read_header(file: Path) -> list[TensorEntry]:
    """Return the tensors of a safetensors file in file order, after checking its header.

    Raises:
        BadCheckpointError: when the header is too long, no JSON, names unknown types, or its
            offsets don't cover the file without holes and overlaps.
    """
    try:
        size = file.stat().st_size
        with bounded.open_regular(file) as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(MAX_HEADER, size - 8):
                raise BadCheckpointError(f"{file.name} is truncated or no safetensors file.")
            header = bounded.parsed_json(stream.read(length), _no_duplicates)
    except OSError as error:
        raise BadCheckpointError(f"Can't read {file}: {error.strerror or error}.") from error
    except ValueError as error:
        raise BadCheckpointError(f"{file.name} has a damaged header: {bounded.why(error)}.") from error
    entries = list(_entries(file, header, 8 + length))
    entries.sort(key=lambda entry: (entry.start, entry.nbytes))
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
        except (KeyError, TypeError, ValueError):
            dtype = None
        if not isinstance(dtype, str) or not _sane(name, shape, start, stop):
            raise BadCheckpointError(f"{file.name} describes {name!r:.80} in a damaged way.")
        if dtype not in DTYPES:
            raise BadCheckpointError(f"{file.name} stores {name!r:.80} as {dtype!r:.80}, an unknown type.")
        entry = TensorEntry(file, name, dtype, shape, base + start)
        if entry.nbytes != stop - start:
            raise BadCheckpointError(f"{file.name} gives {name!r:.80} a size that doesn't fit its shape.")
        yield entry


def _sane(name: str, shape: tuple[Any, ...], *offsets: Any) -> bool:
    """Return whether a header's values are of the right kind and size to compute with."""
    integers = all(type(n) is int and 0 <= n < MAX_LENGTH for n in (*shape, *offsets))
    return integers and len(shape) <= MAX_AXES and name.isprintable()


def _check_coverage(file: Path, entries: list[TensorEntry], base: int, size: int) -> None:
    place = base
    for entry in entries:
        if entry.start != place:
            raise BadCheckpointError(f"{file.name} has a hole or an overlap before {entry.name!r:.80}.")
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


def safetensors_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the content of a file that holds `tensors`, in the order of their names."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    headers = [TensorHeader(name, NAMES[t.dtype], tuple(t.shape)) for name, t in stored.items()]
    return b"".join([header_bytes(headers), *(bytes(tensor_bytes(tensor)) for tensor in stored.values())])


def write_file(path: Path, header: bytes, tensors: Iterable[torch.Tensor]) -> None:
    """Write a header and the tensors (or blocks of them) it describes as they come, and flush all to disk."""
    with open(path, "wb", buffering=0) as file:
        _write_all(file, memoryview(header))
        for tensor in tensors:
            _write_all(file, tensor_bytes(tensor))
        os.fsync(file.fileno())


def _write_all(file: FileIO, data: memoryview) -> None:
    done = 0
    while done < len(data):
        done += file.write(data[done:])


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """Return a tensor's bytes, in row-major order."""
    if tensor.numel() == 0:
        return memoryview(b"")
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data
