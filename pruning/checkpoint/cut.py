"""Make a plan permanent: stream a checkpoint shard by shard into a smaller one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, INDEX, Checkpoint, check_finite
from prunepolicy.pruning.checkpoint.model_files import SideFiles, side_files
from prunepolicy.pruning.checkpoint.older_keys import with_older_keys
from prunepolicy.pruning.checkpoint.per_layer import carry, check_widths
from prunepolicy.pruning.checkpoint.shards import Job, Shard, lay_out
from prunepolicy.pruning.checkpoint.vocabulary_cut import ANOTHER_FORM, OTHER_FORMS, VocabularyCut
from prunepolicy.pruning.errors import BadCheckpointError, NotEnoughSpaceError, PrunePolicyError, UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import FULL, as_sentence, sync_folder, write_stream, write_text
from prunepolicy.pruning.io.claim import claiming, real_place
from prunepolicy.pruning.io.safetensors_file import NAMES, tensor_bytes, write_file
from prunepolicy.pruning.io.working_folder import working_folder
from prunepolicy.pruning.keep_masks import Indices
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import VOCABULARY

JOURNAL = ".journal.json"
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

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
    (`atomic.publish`); until then `target` is claimed for this process.

    Raises:
        NotEnoughSpaceError: before the first byte, when the disk can't hold the result; later,
            when others filled it. What is finished then is kept for the next run.
        PrunePolicyError: when the plan doesn't fit the checkpoint.
        UsageError: when `target` and the checkpoint lie inside each other, or another process
            writes `target`.
    """
    edits = edits or Edits()
    _check_plan(checkpoint, plan)
    vocabulary = VocabularyCut.of(checkpoint, plan)
    check_apart(checkpoint.folder, target)
    shards = lay_out(checkpoint, plan, edits.tensors)
    try:
        with claiming(target):
            folder = working_folder(target)
            _resume(folder, shards, _key(checkpoint, plan, edits, shards))
            beside = _beside(checkpoint, plan)
            _check_space(folder, shards, beside)
            for shard in shards:
                if shard.is_done(folder):
                    progress(sum(_source_bytes(checkpoint, job) for job in shard.jobs))
                else:
                    _write_shard(shard, folder, _stream(checkpoint, shard, edits, progress))
            _write_index(folder, shards)
            _copy(beside, folder)
            if vocabulary is not None:
                vocabulary.write(folder)
            _write_config(checkpoint, plan, edits, folder, vocabulary)
            sync_folder(folder)
    except OSError as error:
        raise as_sentence(error, target) from error
    return folder


def finish(folder: Path) -> None:
    """Remove the journal of a prepared folder; it is complete now."""
    try:
        (folder / JOURNAL).unlink(missing_ok=True)
    except OSError as error:
        raise as_sentence(error, folder) from error


def cut_tensor(tensor: torch.Tensor, keep: Mapping[int, Indices]) -> torch.Tensor:
    """Return what stays of a tensor along every axis that shrinks."""
    # NumPy takes columns several times faster than index_select, and knows no bfloat16.
    entries = tensor.view(INTEGERS[tensor.dtype.itemsize]).numpy()
    for axis, indices in keep.items():
        entries = np.take(entries, indices, axis=axis, mode="clip")
    return torch.from_numpy(entries).view(tensor.dtype)


def _check_plan(checkpoint: Checkpoint, plan: Plan) -> None:
    if plan.fingerprint and plan.fingerprint != checkpoint.fingerprint:
        raise PrunePolicyError(
            f"The plan was made for another checkpoint than {checkpoint.folder}; "
            "make it again with `prunepolicy plan`."
        )
    plan.check(checkpoint.graph)
    check_widths(checkpoint.config, checkpoint.graph, plan)


def check_apart(source: Path, target: Path) -> None:
    """Raise `UsageError` when `source` and `target` lie inside each other."""
    source, place = source.resolve(), real_place(target)
    if source == place or source in place.parents or place in source.parents:
        raise UsageError(
            f"{target} and the model's folder {source} lie inside each other; choose another folder."
        )


def _key(checkpoint: Checkpoint, plan: Plan, edits: Edits, shards: list[Shard]) -> str:
    """Return a hash of all that decides what the shards hold."""
    digest = hashlib.sha256(f"{checkpoint.fingerprint}{plan.to_json()}".encode())
    for file in checkpoint.files:
        digest.update(str(file.stat().st_mtime_ns).encode())
    for shard in shards:
        digest.update(shard.header)
    for _, tensor in sorted(edits.tensors.items()):
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _resume(folder: Path, shards: list[Shard], key: str) -> None:
    """Leave in `folder` nothing but what an earlier run with the same `key` finished."""
    journal = folder / JOURNAL
    kept = {JOURNAL, *(shard.name for shard in shards)} if _journal_key(journal) == key else set()
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not kept:
        write_text(journal, json.dumps({"key": key}) + "\n")


def _journal_key(journal: Path) -> str | None:
    try:
        return str(bounded.read_json(journal)["key"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _check_space(folder: Path, shards: list[Shard], beside: Mapping[str, Path]) -> None:
    missing = sum(shard.nbytes for shard in shards if not shard.is_done(folder))
    missing += sum(file.stat().st_size for file in beside.values())
    needed = missing + missing // 20
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NotEnoughSpaceError(
            f"{folder} needs {needed:,} more bytes and the disk has {free:,}; no weights were written."
        )


def _write_shard(shard: Shard, folder: Path, tensors: Iterator[torch.Tensor]) -> None:
    """Write a shard, which appears under its name only when it is complete."""
    unfinished = folder / f"{shard.name}.unfinished"
    try:
        write_file(unfinished, shard.header, tensors)
        unfinished.rename(folder / shard.name)
    except (OSError, PrunePolicyError) as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise NotEnoughSpaceError(
                f"The disk is full: {folder / shard.name} needs {shard.nbytes:,} bytes. Free space and run "
                "again; finished files are kept."
            ) from error
        raise


def _stream(checkpoint: Checkpoint, shard: Shard, edits: Edits, progress: Progress) -> Iterator[torch.Tensor]:
    """Yield the shard's tensors block by block."""
    for job in shard.jobs:
        if job.source in edits.tensors:
            yield _edited(job, edits.tensors[job.source])
            progress(_source_bytes(checkpoint, job))
            continue
        first = 0
        for block in checkpoint.blocks(job.source):
            yield cut_tensor(block, _within(job.keep, first, len(block))) if job.keep else block
            progress(block.nbytes)
            first += len(block) if block.dim() else 0


def _edited(job: Job, tensor: torch.Tensor) -> torch.Tensor:
    if tuple(tensor.shape) != job.header.shape or NAMES[tensor.dtype] != job.header.dtype:
        raise ValueError(
            f"the edit of {job.source} is {tuple(tensor.shape)} {tensor.dtype}, not {job.header}"
        )
    check_finite(job.source, tensor)
    return tensor


def _within(keep: Mapping[int, Indices], first: int, rows: int) -> dict[int, Indices]:
    """Return `keep` with the first axis limited to rows [first, first + rows), counted from `first`."""
    inside = dict(keep)
    if 0 in inside:
        start, stop = np.searchsorted(inside[0], (first, first + rows))
        inside[0] = inside[0][start:stop] - first
    return inside


def _source_bytes(checkpoint: Checkpoint, job: Job) -> int:
    return checkpoint.tensors[job.source].nbytes if job.source in checkpoint.tensors else 0


def _write_index(folder: Path, shards: list[Shard]) -> None:
    if len(shards) == 1:
        return
    weight_map = {job.header.name: shard.name for shard in shards for job in shard.jobs}
    total = sum(job.header.nbytes for shard in shards for job in shard.jobs)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")


def side_files_of(checkpoint: Checkpoint, plan: Plan | None = None) -> SideFiles:
    """Return what lies beside a checkpoint's configuration and weights, and what of it travels."""
    found = side_files(checkpoint.folder, {CONFIG, INDEX, *(file.name for file in checkpoint.files)})
    if plan is None or VOCABULARY not in plan.keep:
        return found
    travelling = {name: file for name, file in found.travelling.items() if name not in OTHER_FORMS}
    stale = dict.fromkeys(found.travelling.keys() - travelling.keys(), ANOTHER_FORM)
    return SideFiles(travelling, {**found.behind, **dict(sorted(stale.items()))})


def _beside(checkpoint: Checkpoint, plan: Plan) -> dict[str, Path]:
    """Return what is copied: tokenizer, chat template, licences and whatever else belongs to the model."""
    return {**side_files_of(checkpoint, plan).travelling, **checkpoint.adapter.carries}


def _copy(files: Mapping[str, Path], folder: Path) -> None:
    """Copy `files` into `folder` under the names they have there, byte for byte."""
    for name, file in files.items():
        try:
            with open(file, "rb") as source:
                write_stream(folder / name, source, os.fstat(source.fileno()).st_size)
        except OSError as error:
            raise BadCheckpointError(f"Can't read {file}: {error.strerror or error}.") from error


def _write_config(
    checkpoint: Checkpoint, plan: Plan, edits: Edits, folder: Path, vocabulary: VocabularyCut | None
) -> None:
    """Write the configuration, last of all: without it no loader takes the folder for a model."""
    uniform = plan.is_uniform(checkpoint.graph)
    own_widths = {} if uniform else carry(checkpoint.config, checkpoint.graph, plan, folder)
    config = checkpoint.adapter.edit_config(checkpoint.config, checkpoint.graph, plan) | dict(edits.config)
    config = vocabulary.config(config) if vocabulary else config
    config.pop("auto_map", None)
    config.pop("_name_or_path", None)
    write_text(folder / CONFIG, json.dumps(with_older_keys(config | own_widths), indent=2) + "\n")
