"""Make a plan permanent: stream a checkpoint shard by shard into a smaller one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from prunepolicy.pruning.atomic import as_sentence, partial_folder, sync_folder, write_text
from prunepolicy.pruning.checkpoint import CONFIG, INDEX, WEIGHTS, Checkpoint, check_cuttable
from prunepolicy.pruning.errors import NotEnoughSpaceError, PrunePolicyError
from prunepolicy.pruning.keep_masks import is_dropped, kept_indices, removed_units, renumbered
from prunepolicy.pruning.per_layer import carry, check_equal_widths
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.safetensors_file import NAMES, TensorHeader, header_bytes, tensor_bytes, write_file

JOURNAL = "journal.jsonl"
SIDE_FILES = {".json", ".model", ".txt", ".jinja", ".tiktoken", ".vocab"}
LICENCES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")

Progress = Callable[[int], None]
"""Called with the number of source bytes just done."""


@dataclass(frozen=True)
class Edits:
    """What a repair changes besides cutting.

    Attributes:
        tensors: names in the source's numbering to final values; known names are replaced, new
            ones added.
        config: configuration keys to set.
    """

    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """One tensor to write: its header, where it comes from, and what stays of it."""

    header: TensorHeader
    source: str
    keep: dict[int, torch.Tensor]


def prepare(
    checkpoint: Checkpoint,
    plan: Plan,
    target: Path,
    edits: Edits | None = None,
    progress: Progress = lambda done: None,
) -> Path:
    """Write the pruned checkpoint into a folder beside `target` and return that folder.

    A run that was interrupted continues after its last finished shard, when plan, checkpoint and
    edits are the same. The caller adds what else belongs into the folder and publishes it
    (`atomic.publish`).

    Raises:
        NotEnoughSpaceError: before the first byte, when the disk can't hold the result.
        PrunePolicyError: when the plan doesn't fit the checkpoint.
    """
    edits = edits or Edits()
    if plan.fingerprint and plan.fingerprint != checkpoint.fingerprint:
        raise PrunePolicyError(
            f"The plan was made for another checkpoint than {checkpoint.folder}; "
            "make it again with `prunepolicy plan`."
        )
    plan.check(checkpoint.graph)
    check_equal_widths(checkpoint.config)
    shards = _layout(checkpoint, plan, edits)
    folder = partial_folder(target)
    try:
        done = _resume(folder, _key(checkpoint, plan, edits))
        uniform = plan.is_uniform(checkpoint.graph)
        own_widths = {} if uniform else carry(checkpoint.config, checkpoint.graph, plan, folder)
        _check_space(target, sum(job.header.nbytes for jobs in shards for job in jobs))
        for number, jobs in enumerate(shards, start=1):
            name = shard_name(number, len(shards))
            size = sum(job.header.nbytes for job in jobs)
            if name not in done:
                _write_shard(checkpoint, jobs, edits, folder / name, progress)
                with open(folder / JOURNAL, "a", encoding="utf-8") as journal:
                    journal.write(json.dumps({"done": name, "bytes": size}) + "\n")
            else:
                progress(
                    sum(checkpoint.tensors[j.source].nbytes for j in jobs if j.source in checkpoint.tensors)
                )
        _write_index(folder, shards)
        _copy_side_files(checkpoint.folder, folder)
        for file, origin in checkpoint.adapter.carries.items():
            shutil.copyfile(origin, folder / file)
        config = checkpoint.adapter.edit_config(checkpoint.config, checkpoint.graph, plan) | dict(
            edits.config
        )
        config.pop("auto_map", None)
        config.pop("_name_or_path", None)
        write_text(folder / CONFIG, json.dumps(config | own_widths, indent=2) + "\n")
        sync_folder(folder)
    except OSError as error:
        raise as_sentence(error, folder) from error
    return folder


def finish(folder: Path) -> None:
    """Remove the journal of a prepared folder; it is complete now."""
    (folder / JOURNAL).unlink(missing_ok=True)


def shard_name(number: int, total: int) -> str:
    """Return the file name of a shard, in the hub's convention."""
    return WEIGHTS if total == 1 else f"model-{number:05d}-of-{total:05d}.safetensors"


def cut_tensor(tensor: torch.Tensor, keep: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """Return what stays of a tensor along every axis that shrinks."""
    for axis, indices in keep.items():
        tensor = tensor.index_select(axis, indices)
    return tensor


def _layout(checkpoint: Checkpoint, plan: Plan, edits: Edits) -> list[list[_Job]]:
    graph = checkpoint.graph
    removed = removed_units(graph, plan.keep)
    shards: dict[Path, list[_Job]] = {file: [] for file in checkpoint.files}
    for name, entry in checkpoint.tensors.items():
        if is_dropped(graph, removed, name):
            continue
        keep = {axis: torch.from_numpy(kept) for axis, kept in kept_indices(graph, removed, name).items()}
        shape = list(entry.shape)
        for axis, kept in keep.items():
            check_cuttable(entry)
            shape[axis] = len(kept)
        header = TensorHeader(renumbered(graph, removed, name), entry.dtype, tuple(shape))
        shards[entry.file].append(_Job(header, name, keep))
    filled = [jobs for jobs in shards.values() if jobs]
    for name, tensor in sorted(edits.tensors.items()):
        if name not in checkpoint.tensors:
            new_name = renumbered(graph, removed, name)
            filled[-1].append(
                _Job(TensorHeader(new_name, NAMES[tensor.dtype], tuple(tensor.shape)), name, {})
            )
    return filled


def _write_shard(
    checkpoint: Checkpoint, jobs: list[_Job], edits: Edits, path: Path, progress: Progress
) -> None:
    def stream() -> Iterator[tuple[TensorHeader, torch.Tensor]]:
        for job in jobs:
            if job.source in edits.tensors:
                yield job.header, edits.tensors[job.source]
            else:
                yield job.header, cut_tensor(checkpoint.read(job.source), job.keep)
            if job.source in checkpoint.tensors:
                progress(checkpoint.tensors[job.source].nbytes)

    # A shard becomes visible under its name only when it is complete.
    unfinished = path.with_suffix(".unfinished")
    write_file(unfinished, stream(), header_bytes(job.header for job in jobs))
    unfinished.rename(path)


def _key(checkpoint: Checkpoint, plan: Plan, edits: Edits) -> str:
    digest = hashlib.sha256(f"{checkpoint.fingerprint}{plan.to_json()}".encode())
    for name, tensor in sorted(edits.tensors.items()):
        digest.update(name.encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _resume(folder: Path, key: str) -> set[str]:
    """Return the shards an earlier run finished for the same `key`; start afresh otherwise."""
    journal = folder / JOURNAL
    if journal.is_file():
        first, *lines = [
            _journal_line(line) for line in journal.read_text(encoding="utf-8").splitlines()
        ] or [{}]
        if first.get("key") == key:
            names = {str(line["done"]) for line in lines if "done" in line}
            return {name for name in names if (folder / name).is_file()}
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_text(journal, json.dumps({"key": key}) + "\n")
    return set()


def _journal_line(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:
        return {}  # The kill came in the middle of a line: that shard is written again.


def _check_space(target: Path, nbytes: int) -> None:
    needed = nbytes + nbytes // 20
    free = shutil.disk_usage(target.parent if target.parent.exists() else Path.cwd()).free
    if free < needed:
        raise NotEnoughSpaceError(
            f"{target} needs {needed / 2**30:.2f} GiB and the disk has {free / 2**30:.2f} GiB; "
            "nothing was written."
        )


def _write_index(folder: Path, shards: list[list[_Job]]) -> None:
    if len(shards) == 1:
        return
    weight_map = {
        job.header.name: shard_name(number, len(shards))
        for number, jobs in enumerate(shards, start=1)
        for job in jobs
    }
    total = sum(job.header.nbytes for jobs in shards for job in jobs)
    write_text(
        folder / INDEX,
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n",
    )


def _copy_side_files(source: Path, folder: Path) -> None:
    """Copy tokenizer, chat template, generation settings and licences byte for byte."""
    for file in sorted(source.iterdir()):
        is_side = file.suffix in SIDE_FILES and file.name not in (
            CONFIG,
            INDEX,
            "prune_report.json",
            "plan.json",
        )
        if file.is_file() and (is_side or file.stem.upper() in LICENCES):
            shutil.copyfile(file, folder / file.name)
