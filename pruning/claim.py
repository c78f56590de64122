"""Let one process at a time write a place; the system frees the place when that process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunepolicy.pruning.errors import UsageError

_claims: dict[Path, int] = {}
"""Places this process has claimed, and the open descriptors that hold their locks."""


def claim(target: Path) -> None:
    """Make this process the only one that may write `target`, until `release` or its own end.

    Claiming again what this process holds already changes nothing.

    Raises:
        UsageError: when another process is writing `target`.
        OSError: when the folder around `target` can't be written.
    """
    place = real_place(target)
    if place in _claims:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor = None
    while descriptor is None:
        descriptor = _try_lock(place)
    _claims[place] = descriptor


def release(target: Path) -> None:
    """Give up a claim, if this process holds it."""
    place = real_place(target)
    descriptor = _claims.pop(place, None)
    if descriptor is None:
        return
    try:
        with suppress(OSError):  # A lock file that stays is harmless: only its lock counts.
            _lock_file(place).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def claiming(target: Path) -> Iterator[None]:
    """Claim `target`; the claim outlives the block, unless the block fails."""
    claim(target)
    try:
        yield
    except BaseException:
        release(target)
        raise


def real_place(target: Path) -> Path:
    """Return where `target` really lies, behind symbolic links.

    Raises:
        UsageError: when links go in a circle, or `target` is a root that has no place beside it.
    """
    try:
        place = target.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{str(target)!r} is no usable path; choose another folder.") from error
    if not place.name:
        raise UsageError(f"{target} can't be replaced; choose a folder inside it.")
    return place


def _lock_file(place: Path) -> Path:
    return place.with_name(f".{place.name}.lock")


def _try_lock(place: Path) -> int | None:
    """Return a descriptor that holds the lock, or None when its file was removed meanwhile."""
    file = _lock_file(place)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 20).decode() or "unknown"
        os.close(descriptor)
        raise UsageError(
            f"Another process ({owner}) is writing {place}; wait for it or choose another folder."
        ) from error
    except OSError:
        return descriptor  # A file system without locks: one writer at a time is up to the user.
    if not _is_at(descriptor, file):
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
