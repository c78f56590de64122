"""Which files a pruned checkpoint will consist of, and what stays of every tensor in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from prunepolicy.pruning.checkpoint.checkpoint import WEIGHTS, Checkpoint, check_cuttable
from prunepolicy.pruning.io.safetensors_file import NAMES, TensorHeader, header_bytes
from prunepolicy.pruning.keep_masks import Indices, is_dropped, kept_indices, removed_units, renumbered
from prunepolicy.pruning.plan import Plan


@dataclass(frozen=True)
class Job:
    """One tensor to write: its header, where it comes from, and what stays of it."""

    header: TensorHeader
    source: str
    keep: Mapping[int, Indices]


@dataclass(frozen=True)
class Shard:
    """One file to write."""

    name: str
    jobs: tuple[Job, ...]

    @cached_property
    def header(self) -> bytes:
        """Length prefix and header of the file."""
        return header_bytes(job.header for job in self.jobs)

    @cached_property
    def nbytes(self) -> int:
        """Length of the whole file."""
        return len(self.header) + sum(job.header.nbytes for job in self.jobs)

    def is_done(self, folder: Path) -> bool:
        """Return whether an earlier run finished it; the name appears only when all is flushed."""
        file = folder / self.name
        return file.is_file() and file.stat().st_size == self.nbytes


def lay_out(checkpoint: Checkpoint, plan: Plan, edited: Mapping[str, torch.Tensor]) -> list[Shard]:
    """Return the files to write, one for every source file of which something stays.

    Args:
        edited: tensors that a repair made; those the source lacks go into the last file.
    """
    graph = checkpoint.graph
    removed = removed_units(graph, plan.keep)
    files: dict[Path, list[Job]] = {file: [] for file in checkpoint.files}
    for name, entry in checkpoint.tensors.items():
        if is_dropped(graph, removed, name):
            continue
        keep = kept_indices(graph, removed, name)
        if keep:
            check_cuttable(entry)
        shape = tuple(len(keep[axis]) if axis in keep else n for axis, n in enumerate(entry.shape))
        header = TensorHeader(renumbered(graph, removed, name), entry.dtype, shape)
        files[entry.file].append(Job(header, name, keep))
    filled = [jobs for jobs in files.values() if jobs]
    for name, tensor in sorted(edited.items()):
        if name not in checkpoint.tensors and not is_dropped(graph, removed, name):
            new_name = renumbered(graph, removed, name)
            filled[-1].append(Job(TensorHeader(new_name, NAMES[tensor.dtype], tuple(tensor.shape)), name, {}))
    return [Shard(_shard_name(i, len(filled)), tuple(jobs)) for i, jobs in enumerate(filled, start=1)]


def _shard_name(number: int, total: int) -> str:
    """Return the file name of a shard, in the hub's convention."""
    return WEIGHTS if total == 1 else f"model-{number:05d}-of-{total:05d}.safetensors"
