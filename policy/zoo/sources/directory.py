"""A folder, such as a mirror on a shared disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunepolicy.policy.zoo.sources.registry import CHUNK, Source, Stream, sources
from prunepolicy.pruning.errors import PrunePolicyError


@sources.register
class Directory(Source):
    """Reads files of a folder; links are not followed, so nothing outside it is read."""

    def __init__(self, spelling: str, folder: Path | None = None) -> None:
        super().__init__(spelling)
        self.folder = folder or Path(os.path.expanduser(spelling))

    @classmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether the spelling is a path."""
        return "://" not in spelling and spelling != "package" and bool(spelling)

    @property
    def identity(self) -> str:
        """Where the folder really is."""
        return str(self.folder.absolute())

    @contextmanager
    def open(self, path: str, start: int = 0) -> Iterator[Stream]:
        """Open a regular file below the folder."""
        descriptor = open_regular(self.folder / path, self.folder)
        with open(descriptor, "rb", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            file.seek(min(start, size))
            yield Stream(min(start, size), iter(lambda: file.read(CHUNK), b""), size)


def open_regular(file: Path, root: Path) -> int:
    """Open a regular file that no link below `root` leads to, and return its descriptor.

    Raises:
        PrunePolicyError: when it is missing, a link, a pipe, or anything else but a file.
    """
    try:
        linked = any(place.is_symlink() for place in (file, *file.parents) if root in place.parents)
        descriptor = None if linked else os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise PrunePolicyError(f"Can't read {file}: {getattr(error, 'strerror', error)}.") from error
    if descriptor is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        if descriptor is not None:
            os.close(descriptor)
        raise PrunePolicyError(f"{file} is a link or no regular file, so it isn't read.")
    return descriptor
