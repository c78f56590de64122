"""Temporary folders that name their process: what a killed one has left, the next one removes."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunepolicy.pruning.io.atomic import FULL, MACHINE, as_sentence
from prunepolicy.pruning.io.claim import is_alive

NAME = re.compile(rf"\.prunepolicy-{MACHINE}-(\d+)-\w+", re.ASCII)


@contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """Yield a folder that lasts as long as the context.

    Args:
        place: where it lies; by default where TMPDIR or the system says.

    Raises:
        NotEnoughSpaceError: when the disk is full, or fills up meanwhile.
        PrunePolicyError: when there is no such place, or it can't be written.
    """
    folder = made_temporary(place)
    try:
        yield folder
    except OSError as error:
        if error.errno in FULL:
            raise as_sentence(error, folder) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def made_temporary(place: Path | None = None) -> Path:
    """Make a folder that the caller removes, or a later process when this one is killed before it can.

    Raises:
        PrunePolicyError: when there is no place for it, or the disk is full.
    """
    try:
        place = place or Path(tempfile.gettempdir())
        _clear_dead(place)
        return Path(tempfile.mkdtemp(prefix=f".prunepolicy-{MACHINE}-{os.getpid()}-", dir=place))
    except OSError as error:
        raise as_sentence(error, place or Path(os.environ.get("TMPDIR", "a temporary folder"))) from error


def _clear_dead(place: Path) -> None:
    """Remove what this user's processes of this machine have left in `place` when they were killed."""
    for folder in place.iterdir():
        found = NAME.fullmatch(folder.name)
        if found and not is_alive(int(found[1])) and _is_own(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    with suppress(OSError):
        return not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    return False
