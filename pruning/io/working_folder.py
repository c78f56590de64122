"""A folder beside an output, marked as this project's own, in which the output's content is prepared."""

from __future__ import annotations

import glob
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.claim import claim, real_place

PARTIAL = ".partial"
MARK = "prunepolicy.json"
MOST_MARK_BYTES = 4096
NAME = re.compile(r"\.[0-9a-f]{8}\.partial")
"""What follows the target's name."""
REPLACED = "replaced"
"""Where the old output lies, inside the working folder, on systems that can't swap two folders at once."""


def working_folder(target: Path) -> Path:
    """Claim `target`, and return where its content is prepared: a place that may hold what a run left.

    It lies in a folder beside `target` whose name has a random part and whose mark is its first file. What an
    interrupted run has left in such a folder is found again; whatever has no mark is somebody else's.

    Raises:
        UsageError: when another process is writing `target`.
        OSError: when the folder around `target` can't be written.
    """
    place = real_place(target)
    claim(place)
    put_back(place)
    found = list(left_behind(place))
    usable = [folder for folder in found if (folder / place.name).is_dir()]
    for folder in found:
        if folder not in usable[:1]:
            _clear(folder)
    return (usable[0] if usable else _marked(place)) / place.name


def left_behind(place: Path) -> Iterator[Path]:
    """Yield the working folders of a target that are there, the latest first."""
    found = (Path(name) for name in glob.glob(f"{glob.escape(str(place))}.*{PARTIAL}"))
    yield from sorted((path for path in found if _is_ours(path, place)), key=_age)


def put_back(place: Path) -> None:
    """Give a target back what a killed replacement has moved aside, and clear it where that isn't needed.

    A working folder in which nothing is prepared any more goes, too.
    """
    for folder in left_behind(place):
        aside = folder / REPLACED
        if aside.is_dir() and not place.exists():
            os.rename(aside, place)
        shutil.rmtree(aside, ignore_errors=True)
        if not (folder / place.name).is_dir():
            _clear(folder)


def discard(target: Path) -> None:
    """Remove what has been prepared for a target, which this process has claimed."""
    for folder in left_behind(real_place(target)):
        _clear(folder)


def _marked(place: Path) -> Path:
    folder = place.with_name(f"{place.name}.{secrets.token_hex(4)}{PARTIAL}")
    folder.mkdir()
    with open(folder / MARK, "x", encoding="utf-8") as file:
        json.dump({"prepares": place.name}, file)
    return folder


def _clear(folder: Path) -> None:
    """Remove a working folder, its mark after all else: a kill in between leaves a folder that is known."""
    with suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda path: path.name == MARK):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        folder.rmdir()


def _is_ours(folder: Path, place: Path) -> bool:
    """Return whether a folder, not a link to one, says that it prepares `place`, or hasn't come to say it."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    with suppress(OSError, ValueError):
        if not {path.name for path in folder.iterdir()} - {MARK}:
            return NAME.fullmatch(folder.name.removeprefix(place.name)) is not None
        content = bounded.parsed_json(bounded.read_bytes(folder / MARK, MOST_MARK_BYTES, follow=False))
        return isinstance(content, dict) and content.get("prepares") == place.name
    return False


def _age(folder: Path) -> float:
    try:
        return -os.stat(folder).st_mtime
    except OSError:
        return 0.0
