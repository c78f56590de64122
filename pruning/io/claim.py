"""Let one process at a time write a place; the system frees the place when that process dies."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunepolicy.pruning.errors import PrunePolicyError, UsageError

try:
    import fcntl
except ImportError:  # Windows: what a lock file says counts there.
    fcntl = None  # type: ignore[assignment]

_claims: dict[Path, int] = {}
"""Places this process has claimed, and the open descriptors that hold their locks."""
MOST_BYTES = 300
"""Of a lock file: a process number, a space and the name of its machine."""


def claim(target: Path, wait: bool = False) -> None:
    """Make this process the only one that may write `target`, until `release` or its own end.

    Claiming again what this process holds already changes nothing.

    Args:
        wait: for the process that writes it now, instead of raising.

    Raises:
        UsageError: when another process is writing `target`, or another file lies where its lock would.
        OSError: when the folder around `target` can't be written.
    """
    place = real_place(target)
    if place in _claims:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor = None
    while descriptor is None:
        descriptor = _try_lock(place, wait)
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


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Claim `target` for as long as the block lasts.

    Raises:
        PrunePolicyError: when another process is writing `target`, or nothing can be written beside it.
    """
    try:
        claim(target)
    except OSError as error:
        raise PrunePolicyError(f"Can't write beside {target}: {error.strerror or error}.") from error
    try:
        yield
    finally:
        release(target)


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


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine is running; on Windows, where asking would end it, say so."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # Somebody else's.
    return True


def _lock_file(place: Path) -> Path:
    return place.with_name(f".{place.name}.lock")


def _try_lock(place: Path, wait: bool) -> int | None:
    """Return a descriptor that holds the lock, or None when its file was removed meanwhile."""
    file = _lock_file(place)
    descriptor = _opened(file)
    try:
        if not _locked(descriptor, wait):
            raise UsageError(_taken(_owner(descriptor), place))
        if not _is_at(descriptor, file):
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid()} {platform.node()}".encode())
    except (OSError, UsageError):
        os.close(descriptor)
        raise
    return descriptor


def _opened(file: Path) -> int:
    """Open a lock file, or make it; never what a link leads to, nor a file that says anything else."""
    refused = UsageError(f"{file} is no lock of prunepolicy's; move it away, or choose another folder.")
    if file.is_symlink():
        raise refused
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    known = os.fstat(descriptor)
    words = _owner(descriptor).split()
    if not stat.S_ISREG(known.st_mode) or known.st_size > MOST_BYTES or (words and not words[0].isdigit()):
        os.close(descriptor)
        raise refused
    return descriptor


def _locked(descriptor: int, wait: bool) -> bool:
    """Take the lock; where the system has none, believe what the last owner wrote while it runs."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return True
        except BlockingIOError:
            return False
        except OSError:
            pass  # A file system without locks.
    pid, _, machine = _owner(descriptor).partition(" ")
    return not pid.isdigit() or (machine == platform.node() and not is_alive(int(pid)))


def _taken(owner: str, place: Path) -> str:
    """Say who writes a place; of a process on another machine, only a person knows whether it still runs."""
    pid, _, machine = owner.partition(" ")
    here = machine == platform.node()
    who = pid if here else f"{pid} on {machine or 'an unknown machine'}"
    hint = "" if here else f" If that process has ended, remove {_lock_file(place)}."
    return f"Another process ({who}) is writing {place}; wait for it or choose another folder.{hint}"


def _owner(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, MOST_BYTES).decode(errors="replace")


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
