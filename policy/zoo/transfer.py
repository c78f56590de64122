"""Bring one file from a source: no more bytes than are listed, continued after a break, checked by hash."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from prunepolicy.policy.weights import read_regular
from prunepolicy.policy.zoo.cache import quarantine
from prunepolicy.policy.zoo.index import FileName, FileRecord
from prunepolicy.policy.zoo.sources import Source
from prunepolicy.policy.zoo.sources.registry import InterruptedTransferError
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.atomic import as_sentence

ATTEMPTS = 4
PAUSE = 0.5
"""Seconds before the second attempt; twice as long before every further one."""


def read_whole(source: Source, path: str, most: int) -> bytes:
    """Return the content of a small file, which may have `most` bytes.

    Raises:
        PrunePolicyError: when it has more, or the source fails.
    """
    for attempt in range(ATTEMPTS):
        try:
            return _read_once(source, path, most)
        except InterruptedTransferError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("every attempt returns or raises")


def _read_once(source: Source, path: str, most: int) -> bytes:
    content = bytearray()
    with source.open(path) as stream:
        for chunk in stream.chunks:
            content += chunk
            if len(content) > most:
                raise PrunePolicyError(f"{path} of {source.spelling} is larger than {most:,} bytes.")
        if stream.size is not None and len(content) < stream.size:
            raise InterruptedTransferError(f"{path} of {source.spelling} ended early.")
    return bytes(content)


def fetch(source: Source, path: str, target: Path, record: FileRecord) -> None:
    """Write the file at `path` of a source to `target`, continuing what is there.

    Raises:
        InterruptedTransferError: when the source keeps failing; what came stays for the next time.
        PrunePolicyError: when the file isn't the listed one; it is moved into quarantine.
    """
    continued = target.exists()
    _bring(source, path, target, record.size)
    if continued and not is_listed(target, record):
        target.unlink()  # What was there may be of another time: once more from the start.
        _bring(source, path, target, record.size)
    if not is_listed(target, record):
        place = quarantine(target)
        raise PrunePolicyError(
            f"{path} of {source.spelling} isn't the file that the index lists: its SHA-256 differs. "
            f"It lies in quarantine at {place}; nothing was installed."
        )


def _bring(source: Source, path: str, target: Path, size: int) -> None:
    """Try until all bytes are there."""
    for attempt in range(ATTEMPTS):
        try:
            _continue(source, path, target, size)
            return
        except InterruptedTransferError as error:
            if attempt == ATTEMPTS - 1:
                have = target.stat().st_size if target.exists() else 0
                raise InterruptedTransferError(
                    f"{error} {have:,} of {size:,} bytes of {path} are kept; run again to continue."
                ) from error
            time.sleep(PAUSE * 2**attempt)


def _continue(source: Source, path: str, target: Path, size: int) -> None:
    """Append what is missing."""
    have = target.stat().st_size if target.exists() else 0
    if have == size and have:
        return
    with source.open(path, have if have < size else 0) as stream:
        if stream.size is not None and stream.size != size:
            raise PrunePolicyError(
                f"{path} of {source.spelling} has {stream.size:,} bytes where the index lists {size:,}."
            )
        _append(stream.chunks, target, stream.start, size, f"{path} of {source.spelling}")


def _append(chunks: Iterable[bytes], target: Path, start: int, size: int, what: str) -> None:
    place = start
    try:
        with open(target, "r+b" if target.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            for chunk in chunks:
                place += len(chunk)
                if place > size:
                    file.truncate(0)
                    raise PrunePolicyError(f"{what} goes on after the {size:,} bytes that the index lists.")
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise as_sentence(error, target, size) from error
    if place < size:
        raise InterruptedTransferError(f"{what} ended early.")


def check_place(folder: Path) -> None:
    """Raise `UsageError` when a policy's place in a zoo holds what no zoo has put there."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if others := sorted(names - set(get_args(FileName))):
        raise UsageError(f"{folder} holds {others[0]}, which belongs to no policy; move it away.")


def is_listed(file: Path, record: FileRecord) -> bool:
    """Return whether a regular file has the listed size and hash."""
    return listed_content(file, record) is not None


def listed_content(file: Path, record: FileRecord) -> bytes | None:
    """Return the content of a regular file of the listed size and hash, read once; None for any other."""
    try:
        content = read_regular(file, record.size)
    except PrunePolicyError:
        return None
    return content if hashlib.sha256(content).hexdigest() == record.sha256 else None
