"""Write beside the place, flush, rename: a reader sees the old or the new, never a mix."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from prunepolicy.pruning.errors import NotEnoughSpaceError, PrunePolicyError, UsageError

PARTIAL = ".partial"
REPLACED = ".replaced"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all.

    Raises:
        NotEnoughSpaceError: when the disk is full.
        PrunePolicyError: when the place can't be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise as_sentence(error, path) from error


def as_sentence(error: OSError, path: Path) -> PrunePolicyError:
    """Turn an operating-system error about `path` into one of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughSpaceError(f"The disk is full: {path} was not written.")
    return PrunePolicyError(f"Can't write {path}: {error.strerror or error}.")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_folder(target: Path) -> Path:
    """Return the folder beside `target` in which its content is prepared."""
    return target.with_name(target.name + PARTIAL)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise `UsageError` when publishing to `target` would destroy something unasked.

    A folder that an interrupted replacement moved aside is put back first.
    """
    aside = target.with_name(target.name + REPLACED)
    if aside.exists() and not target.exists():
        os.rename(aside, target)
    if target.is_file():
        raise UsageError(f"{target} is a file; give a folder.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise UsageError(f"{target} is not empty. Choose another folder or add --overwrite.")


def publish(prepared: Path, target: Path, rename: Callable[[Path, Path], None] = os.rename) -> None:
    """Rename the finished folder `prepared` to `target`; what was there is replaced whole."""
    aside = target.with_name(target.name + REPLACED)
    try:
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
            rename(target, aside)
        try:
            rename(prepared, target)
        except BaseException:
            if aside.exists():
                os.rename(aside, target)
            raise
        sync_folder(target.parent)
    except OSError as error:
        raise as_sentence(error, target) from error
    shutil.rmtree(aside, ignore_errors=True)
