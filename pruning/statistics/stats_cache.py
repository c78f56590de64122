"""Statistics of a model on calibration data, cached between runs: they take minutes, plans seconds."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.cache import cache_folder, mark_used, recalled, remember, trim
from prunepolicy.pruning.io.machine import versions
from prunepolicy.pruning.io.safetensors_file import (
    NAMES,
    TensorHeader,
    header_bytes,
    read_header,
    tensor_bytes,
)
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats

LIMIT = "PRUNEPOLICY_STATISTICS_MIB"
"""Environment variable: how much the statistics in the cache may take; 0 keeps none."""
DEFAULT_MIB = 2048
CHECKSUM = "sha256"


@dataclass(frozen=True)
class CachedStats:
    """Everything that decides what statistics come out; equal ones have the same entry.

    Attributes:
        needs: names of the statistics.
        device: kind of device that the model runs on.
    """

    checkpoint: Checkpoint
    probe: Probe
    needs: frozenset[str]
    dtype: torch.dtype
    device: str

    def recalled(self) -> Stats | None:
        """Return what an earlier run found; None where there is none, or it is damaged."""
        return recalled(self._file, _read)

    def remember(self, stats: Stats) -> None:
        """Keep statistics for later runs, which may displace the ones that were used longest ago."""
        most = limit()
        if most:
            remember(self._file, _written(stats))
            trim(self._file.parent, most)

    @functools.cached_property
    def _file(self) -> Path:
        text = json.dumps(self._described(), sort_keys=True)
        return cache_folder() / "statistics" / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"

    def _described(self) -> dict[str, Any]:
        return {
            "model": self.checkpoint.fingerprint,
            "files": _stamps(self.checkpoint.folder),
            "probe": vars(self.probe),
            "text": _hash_of(self.probe.file) if self.probe.file else None,
            "needs": sorted(self.needs),
            "computed": [str(self.dtype), self.device],
            "code": code_version(),
            "versions": versions("torch", "transformers", "numpy"),
        }


def _hash_of(text: Path) -> str:
    return hashlib.sha256(bounded.read_bytes(text, bounded.MOST_TEXT)).hexdigest()


def limit() -> int:
    """Return how many bytes of statistics may be kept; what is no number counts as the default."""
    named = os.environ.get(LIMIT, "")
    return (int(named) if named.isdecimal() else DEFAULT_MIB) << 20


@functools.cache
def code_version() -> str:
    """Return a hash of this package's code: statistics are computed all over it."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + bounded.read_bytes(file))
    return digest.hexdigest()


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return sizes and times of a model's files: its fingerprint misses what changes within a tensor."""
    found = {file.name: file.stat() for file in folder.iterdir() if file.is_file()}
    return {name: (state.st_size, state.st_mtime_ns) for name, state in sorted(found.items())}


def _written(stats: Stats) -> bytes:
    """Return statistics as a safetensors file whose last tensor is the hash of those before."""
    tensors = {
        f"{name}/{group}": tensor.detach().cpu().contiguous()
        for name, groups in stats.values.items()
        for group, tensor in groups.items()
    }
    tensors[CHECKSUM] = torch.frombuffer(bytearray(_digest(tensors)), dtype=torch.uint8)
    headers = [TensorHeader(name, NAMES[t.dtype], tuple(t.shape)) for name, t in tensors.items()]
    return b"".join([header_bytes(headers), *(tensor_bytes(tensor) for tensor in tensors.values())])


def _read(file: Path) -> Stats:
    tensors = {entry.name: entry.read() for entry in read_header(file)}
    if bytes(tensor_bytes(tensors.pop(CHECKSUM))) != _digest(tensors):
        raise BadCheckpointError(f"{file} was changed.")
    values: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, group = key.partition("/")
        values.setdefault(name, {})[group] = tensor
    mark_used(file)
    return Stats(values)


def _digest(tensors: Mapping[str, torch.Tensor]) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor))
    return digest.digest()
