"""What can be had again: measured, converted, fetched. A cache that can't be written is an empty one."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import as_sentence, publish, write_bytes
from prunepolicy.pruning.io.claim import claim, release
from prunepolicy.pruning.io.temporary import made_temporary
from prunepolicy.pruning.io.working_folder import discard, working_folder

logger = logging.getLogger(__name__)
Content = TypeVar("Content")

DAMAGED = (PrunePolicyError, OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a file raises that isn't there, may not be read, or isn't what was written."""
LIBRARY_CACHES = {
    "HF_HUB_CACHE": "hub",
    "HF_XET_CACHE": "xet",
    "HF_ASSETS_CACHE": "assets",
    "HF_MODULES_CACHE": "modules",
    "HF_DATASETS_CACHE": "datasets",
}
"""Variables that tell libraries of the hub where to put things, and what follows their home otherwise."""
NO_HOME = Path(os.devnull)
"""Instead of a home where nobody has one: nothing can be there, and nothing can be written there."""


def cache_folder() -> Path:
    """Return the folder for what can be had again; it need not exist, and may not be writable."""
    return cache_home() / "prunepolicy"


def cache_home() -> Path:
    """Return where programs keep caches, by the conventions of desktops."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(named) if named else Path.home() / ".cache"
    except RuntimeError:  # A user without an entry in the system's list, and without HOME.
        return NO_HOME


def recalled(file: Path, read: Callable[[Path], Content]) -> Content | None:
    """Return what `read` makes of a file of the cache; None where it is missing, damaged or forbidden."""
    try:
        return read(file)
    except DAMAGED:
        return None


def remember(file: Path, data: bytes) -> None:
    """Write a file of the cache, whole; where that can't be done, do without."""
    try:
        write_bytes(file, data)
    except PrunePolicyError as error:
        logger.debug("not cached: %s", error)


def made_once(name: str, make: Callable[[Path], None], models: Path | None = None) -> Path:
    """Return the folder that `make` fills, made by the first run that wants it.

    Where the cache can't be written, the folder lasts as long as this process.

    Args:
        name: tells what is in the folder; equal names, equal content.
        models: where such folders are kept; by default in the user's cache folder.

    Raises:
        PrunePolicyError: when `make` does, or no disk takes the folder.
    """
    target = (models or cache_folder() / "models") / name
    with suppress(OSError):
        if target.is_dir():
            return target
        return _made(target, make)
    logger.info("%s can't be written; the model is made for this run alone", target)
    target = temporary_folder() / name
    try:
        return target if target.is_dir() else _made(target, make)
    except OSError as error:
        raise as_sentence(error, target) from error


def _made(target: Path, make: Callable[[Path], None]) -> Path:
    """Let `make` fill a folder, and put it in its place; a process that comes second waits for the first."""
    claim(target, wait=True)
    try:
        if not target.is_dir():
            folder = working_folder(target)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            publish(folder, target)
    except BaseException:
        discard(target)
        raise
    finally:
        release(target)
    return target


@functools.cache
def temporary_folder() -> Path:
    """Return a folder that lasts as long as this process.

    Raises:
        PrunePolicyError: when no disk takes one.
    """
    folder = made_temporary()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def writable(folder: Path) -> bool:
    """Return whether files could be put into a folder, which need not exist yet."""
    place = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), None)
    return place is not None and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)


def spare_libraries() -> None:
    """Name a folder of this process to libraries that have no cache of their own, and can't have one.

    They read these names when they are imported.
    """
    home = os.environ.get("HF_HOME") or cache_home() / "huggingface"
    for variable, name in LIBRARY_CACHES.items():
        place = os.path.expandvars(os.path.expanduser(os.environ.get(variable) or f"{home}/{name}"))
        if not os.path.isdir(place) and not writable(Path(place)):
            os.environ[variable] = str(temporary_folder() / name)


def mark_used(file: Path) -> None:
    """Note that a file of the cache was used, where that can be done: `trim` gives it up later."""
    with suppress(OSError):
        os.utime(file)


def trim(folder: Path, most: int) -> None:
    """Remove the files of a folder that were used longest ago, until those left hold at most `most` bytes."""
    with suppress(OSError):  # Other processes use and trim the same folder.
        found = sorted(((file.stat(), file) for file in folder.iterdir()), key=lambda pair: -pair[0].st_mtime)
        total = 0
        for state, file in found:
            total += state.st_size
            if total > most:
                file.unlink(missing_ok=True)
