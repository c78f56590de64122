"""What a process does to the disk, counted step by step, so that one of them can be its last, or fail."""

from __future__ import annotations

import builtins
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from prunepolicy.pruning.io import atomic

WRITES = re.compile("[wxa+]")
AUDITED = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


class Steps:
    """Counts this process's steps on the disk below a folder, and does something at one of them.

    Args:
        at: the step; 0 for none.
        act: called instead of it.
        lasting: at every later step, too.
    """

    def __init__(self, place: Path, at: int, act: Callable[[], object], lasting: bool = False) -> None:
        self.place, self.at, self.act, self.lasting, self.count = str(place), at, act, lasting, 0
        self.watching = True

    @property
    def is_next(self) -> bool:
        """Whether it happens at the next step."""
        return self.watching and 0 < self.at <= self.count + 1 and (self.lasting or self.count + 1 == self.at)

    def step(self) -> None:
        """Count one more."""
        if self.is_next:
            self.count += 1
            self.act()
        elif self.watching:
            self.count += 1

    def audit(self, event: str, words: tuple[Any, ...]) -> None:
        """Take what the interpreter is about to do."""
        if event in AUDITED and self._is_below(words[0]):
            self.step()
        elif (
            event == "open"
            and isinstance(words[2], int)
            and words[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            if self._is_below(words[0]):
                self.step()

    def _is_below(self, path: Any) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self.place)

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of a descriptor, or of paths, whose every call below the folder is a step."""

        def counted(first: Any, *words: Any, **more: Any) -> Any:
            if self._is_below(_path_of(first) if isinstance(first, int) else first):
                self.step()
            return function(first, *words, **more)

        return counted

    def start(self) -> None:
        """Watch this process until its end."""
        sys.addaudithook(self.audit)
        real = builtins.open

        def opened(file: Any, mode: str = "r", *words: Any, **more: Any) -> Any:
            found = real(file, mode, *words, **more)
            below = self._is_below(_path_of(file) if isinstance(file, int) else file)
            return Writer(found, self) if below and WRITES.search(mode) else found

        for target, name, function in (
            (builtins, "open", opened),
            (os, "fsync", self._wrapped(os.fsync)),
            (os, "write", self._wrapped(os.write)),
            (os, "sendfile", self._wrapped(os.sendfile)),
            (atomic, "exchange", self._wrapped(atomic.exchange)),
        ):
            mock.patch.object(target, name, function).start()


class Writer:
    """A file whose writes are steps; what is killed in one has written half."""

    def __init__(self, file: Any, steps: Steps) -> None:
        self._file, self._steps = file, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def write(self, data: Any) -> Any:
        """Write, as a step."""
        if self._steps.is_next:
            self._file.write(data[: len(data) // 2])
            self._file.flush()
        self._steps.step()
        return self._file.write(data)


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
