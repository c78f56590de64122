"""The files of a folder on their way between machines that share no disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import replace_folder, write_bytes

Files = Mapping[str, bytes]
"""Content by relative path, with slashes."""
MOST_BYTES = 4 << 30
"""Of all files of a folder: they travel in memory."""
MOST_FILES = 10_000


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return all regular files below `folder`, without what links lead to; nothing where there is none.

    Raises:
        PrunePolicyError: when they are too many, too large, or can't be read.
    """
    files: dict[str, bytes] = {}
    left = MOST_BYTES
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            data = bounded.read_bytes(path, left, follow=False)
        except OSError as error:
            raise PrunePolicyError(f"{folder} can't travel: {path.name}: {bounded.why(error)}.") from error
        files[path.relative_to(folder).as_posix()] = data
        left -= len(data)
        if len(files) > MOST_FILES:
            raise PrunePolicyError(f"{folder} can't travel: it has more than {MOST_FILES:,} files.")
    return files


def write_folder(folder: Path, files: Files) -> None:
    """Put `files` in the place of `folder`, all or none.

    Raises:
        PrunePolicyError: when a name leads out of the folder; nothing is written then.
    """
    for name in files:
        check_inside(name)

    def write(place: Path) -> None:
        place.mkdir()
        for name, data in files.items():
            write_bytes(place / name, data)

    replace_folder(folder, write)


def check_inside(name: str) -> None:
    """Raise `PrunePolicyError` unless `name` is a plain relative path."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise PrunePolicyError(f"A file called {name!r} would leave its folder; nothing was written.")
