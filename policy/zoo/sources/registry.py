"""What every source offers: streams of bytes by path. What they mean is checked by others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.registry import Registry

CHUNK = 1 << 16


class InterruptedTransferError(PrunePolicyError):
    """A source went away before all was there; trying again may help."""


@dataclass
class Stream:
    """Bytes of a file as they come.

    Attributes:
        start: place in the file of the first byte: the one asked for, or 0 where a source starts anew.
        chunks: at most `CHUNK` bytes each.
        size: of the whole file as the source announces it, None where it doesn't.
    """

    start: int
    chunks: Iterator[bytes]
    size: int | None = None


class Source(ABC):
    """A place with a signed index and one folder per policy.

    Attributes:
        remote: whether reading needs the network.
        in_place: the folder whose policies are used where they lie; None where they are copied first.
        spelling: what `--source` takes.
    """

    remote: ClassVar[bool] = False
    in_place: Path | None = None

    def __init__(self, spelling: str) -> None:
        self.spelling = spelling

    @property
    def identity(self) -> str:
        """What the source's index is remembered under."""
        return self.spelling.rstrip("/")

    @property
    def line(self) -> str:
        """Along which serials of indexes count up: the zoo's own, or a revision that the spelling names."""
        return ""

    @classmethod
    @abstractmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether `--source SPELLING` means a source of this kind."""

    @abstractmethod
    def open(self, path: str, start: int = 0) -> AbstractContextManager[Stream]:
        """Open a file, from byte `start` on where the source can.

        Raises:
            InterruptedTransferError: when the source can't be reached, or goes away.
            PrunePolicyError: when it has no such file, or behaves as none may.
        """


sources: Registry[type[Source]] = Registry("zoo source", "prunepolicy.policy.zoo.sources")


def source_of(spelling: str) -> Source:
    """Return the source that `spelling` means.

    Raises:
        UsageError: when it means none.
    """
    for name in sources:
        if sources[name].claims(spelling):
            return sources[name](spelling)
    raise UsageError(
        f"{spelling!r} is no source of policies: give package, a folder, http(s)://HOST/PATH or "
        "hf://USER/REPO@REVISION."
    )
