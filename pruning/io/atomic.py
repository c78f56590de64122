"""Write beside the place, flush, rename: a reader sees the old or the new, never a mix."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import platform
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from prunepolicy.pruning.errors import NotEnoughSpaceError, PrunePolicyError, UsageError
from prunepolicy.pruning.io.claim import claim, claiming, is_alive, real_place, release
from prunepolicy.pruning.io.working_folder import PARTIAL, REPLACED, discard, put_back, working_folder

FULL = (errno.ENOSPC, errno.EDQUOT)
PIECE = 1 << 20
LONGEST = 160
"""Bytes of a file's name that the one beside it repeats; most systems take 255."""
MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
"""Tells the processes of machines that share a disk apart."""
PARTIAL_FILE = re.compile(r"\..+\.(?:[0-9a-f]{8}-)?\d+\.partial", re.DOTALL)
"""Files that are being written; before version 0.2 they named no machine."""

# From Linux's <fcntl.h> and <linux/fs.h>.
AT_FDCWD = -100
RENAME_EXCHANGE = 2


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all; names that aren't UTF-8 get question marks in it."""
    write_bytes(path, text.encode("utf-8", "replace"))


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
    write_pieces(path, iter(lambda: source.read(PIECE), b""), nbytes)


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview], nbytes: int | None = None) -> None:
    """Write pieces one after the other to `path`, whole or not at all, as `write_stream` does."""
    beside = path.with_name(f"{_prefix(path)}{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_dead(path)
        with open(beside, "xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise as_sentence(error, path, nbytes) from error


def is_partial(file: Path) -> bool:
    """Return whether a file is one that a killed process was writing."""
    return PARTIAL_FILE.fullmatch(file.name) is not None and file.is_file() and not file.is_symlink()


def _prefix(path: Path) -> str:
    """Begin the name of a file beside `path`, for this machine's processes; names of files have a limit."""
    name = os.fsdecode(os.fsencode(path.name)[:LONGEST])
    return f".{name}.{MACHINE}-"


def _clear_dead(path: Path) -> None:
    """Remove what processes of this machine were writing to `path` when they were killed."""
    for name in glob.glob(f"{glob.escape(str(path.with_name(_prefix(path))))}*{PARTIAL}"):
        file = Path(name)
        pid = int(file.name.removesuffix(PARTIAL).rpartition("-")[2]) if is_partial(file) else None
        if pid == os.getpid() or (pid is not None and not is_alive(pid)):
            file.unlink(missing_ok=True)


def as_sentence(error: OSError, path: Path, nbytes: int | None = None) -> PrunePolicyError:
    """Turn an operating-system error about `path`, of `nbytes`, into one of ours."""
    if error.errno in FULL:
        need = "" if nbytes is None else f", which needs {nbytes:,} bytes"
        return NotEnoughSpaceError(f"The disk is full: can't write {path}{need}; free space and run again.")
    return PrunePolicyError(f"Can't write {path}: {error.strerror or error}.")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    if os.name == "nt":
        return  # Windows opens no folders, and flushes what a rename has changed by itself.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
            put_back(place)
            if place.is_dir() and any(place.iterdir()) and not overwrite:
                raise UsageError(f"{target} is not empty. Choose another folder or add --overwrite.")
    except OSError as error:
        raise as_sentence(error, target) from error


def replace_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder that isn't there yet, and put it in the place of `target` in one step.

    When writing fails, `target` stays as it was.

    Raises:
        UsageError: when `target` is a file, or another process is writing it.
        PrunePolicyError: when the place can't be written.
    """
    check_target(target, overwrite=True)
    try:
        folder = working_folder(target)
    except OSError as error:
        raise as_sentence(error, target) from error
    try:
        shutil.rmtree(folder, ignore_errors=True)
        write(folder)
        publish(folder, target)
    except BaseException as error:
        discard(target)
        release(target)
        if isinstance(error, OSError):
            raise as_sentence(error, target) from error
        raise


def publish(prepared: Path, target: Path) -> None:
    """Put what `working_folder` has prepared in the place of `target`; what was there is replaced whole.

    Where the system can swap two folders in one step, a reader finds the old or the new at every
    moment. Elsewhere there is a moment without either, and a kill in it is repaired by the next run.
    """
    place = real_place(target)
    try:
        claim(place)
        sync_folder(prepared)
        _replace(prepared, place)
        sync_folder(place.parent)
        discard(place)
    except OSError as error:
        raise as_sentence(error, target) from error
    finally:
        release(place)


def _replace(prepared: Path, place: Path) -> None:
    """Put `prepared` at `place`; what was there lies in the working folder then."""
    if place.exists() and exchange(prepared, place):
        return
    if place.exists():
        os.rename(place, prepared.parent / REPLACED)
    try:
        os.rename(prepared, place)
    except OSError:
        put_back(place)
        raise


def exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; return False where the system or the file system can't."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    paths = os.fsencode(first), os.fsencode(second)
    return bool(renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0)
