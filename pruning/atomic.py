"""Write beside the place, flush, rename: a reader sees the old or the new, never a mix."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from prunepolicy.pruning.claim import claim, claiming, real_place, release
from prunepolicy.pruning.errors import NotEnoughSpaceError, PrunePolicyError, UsageError

PARTIAL = ".partial"
REPLACED = ".replaced"
FULL = (errno.ENOSPC, errno.EDQUOT)

# From Linux's <fcntl.h> and <linux/fs.h>.
AT_FDCWD = -100
RENAME_EXCHANGE = 2


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all.

    Raises:
        NotEnoughSpaceError: when the disk is full.
        PrunePolicyError: when the place can't be written.
    """
    write_stream(path, BytesIO(data), len(data))


def write_stream(path: Path, source: BinaryIO, nbytes: int | None = None) -> None:
    """Write what `source` yields to `path`, whole or not at all, in pieces.

    Args:
        nbytes: how many it yields, for the sentence about a full disk.

    Raises:
        NotEnoughSpaceError: when the disk is full.
        PrunePolicyError: when the place can't be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise as_sentence(error, path, nbytes) from error


def as_sentence(error: OSError, path: Path, nbytes: int | None = None) -> PrunePolicyError:
    """Turn an operating-system error about `path`, of `nbytes`, into one of ours."""
    if error.errno in FULL:
        need = "" if nbytes is None else f", which needs {nbytes:,} bytes"
        return NotEnoughSpaceError(f"The disk is full: can't write {path}{need}; free space and run again.")
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
    place = real_place(target)
    return place.with_name(place.name + PARTIAL)


def check_target(target: Path, overwrite: bool) -> None:
    """Claim `target` for this process, or raise `UsageError` when that would destroy something unasked.

    A folder that an interrupted replacement moved aside is put back first. The claim ends with
    `publish`, and with the process.
    """
    place = real_place(target)
    if place.exists() and not place.is_dir():
        raise UsageError(f"{target} is a file; give a folder.")
    try:
        with claiming(place):
            _recover(place)
            if place.is_dir() and any(place.iterdir()) and not overwrite:
                raise UsageError(f"{target} is not empty. Choose another folder or add --overwrite.")
    except OSError as error:
        raise as_sentence(error, target) from error


def publish(prepared: Path, target: Path) -> None:
    """Put the finished folder `prepared` in the place of `target`; what was there is replaced whole.

    Where the system can swap two folders in one step, a reader finds the old or the new at every
    moment. Elsewhere there is a moment without either, and a kill in it is repaired by the next run.
    """
    place = real_place(target)
    try:
        claim(place)
        _recover(place)
        sync_folder(prepared)
        leftover = _replace(prepared, place)
        sync_folder(place.parent)
        shutil.rmtree(leftover, ignore_errors=True)
    except OSError as error:
        raise as_sentence(error, target) from error
    finally:
        release(place)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}{REPLACED}")


def _recover(place: Path) -> None:
    """Put back, or clear away, what a killed replacement left beside `place`."""
    aside = _aside(place)
    if aside.exists() and not place.exists():
        os.rename(aside, place)
    shutil.rmtree(aside, ignore_errors=True)


def _replace(prepared: Path, place: Path) -> Path:
    """Put `prepared` at `place` and return the path at which the old content, if any, lies now."""
    if place.exists() and exchange(prepared, place):
        return prepared
    aside = _aside(place)
    if place.exists():
        os.rename(place, aside)
    try:
        os.rename(prepared, place)
    except OSError:
        _recover(place)
        raise
    return aside


def exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; return False where the system or the file system can't."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(first), os.fsencode(second)
    return bool(renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0)
