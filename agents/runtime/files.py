"""The files of a folder on their way between machines that share no disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import replace_folder, write_bytes

Files = Mapping[str, bytes]
"""Content by relative path, with slashes."""


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return all files below `folder`; nothing where there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


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
