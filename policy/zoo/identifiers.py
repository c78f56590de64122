"""What policies are called: `NAME.vN` or `NAME.TAG-vN`; shorter where that can mean one policy only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from prunepolicy.pruning.errors import UsageError

LONGEST = 96
WORDS = "[a-z0-9]+(?:-[a-z0-9]+)*"
FORM = re.compile(rf"({WORDS})\.(?:({WORDS})-)?v([1-9][0-9]{{0,5}})", re.ASCII)
LIKE_VERSION = re.compile(r"(?:.*-)?v[0-9]+", re.ASCII)


@dataclass(frozen=True)
class PolicyId:
    """The full name of a policy.

    Attributes:
        tag: what sets it apart from others of the name, such as what it was learned on; may be empty.
        version: counts up whenever its decisions change.
    """

    name: str
    tag: str
    version: int

    @classmethod
    def parse(cls, text: str) -> PolicyId:
        """Read a full name.

        Raises:
            UsageError: when it is none; so it can't hold a path either.
        """
        form = FORM.fullmatch(text) if len(text) <= LONGEST else None
        if form is None or LIKE_VERSION.fullmatch(form[2] or ""):
            raise UsageError(f"{shown(text)} is no policy's full name: that is NAME.vN or NAME.TAG-vN.")
        return cls(form[1], form[2] or "", int(form[3]))

    def __str__(self) -> str:
        """Return the full name."""
        return f"{self.name}.{self.tag}-v{self.version}" if self.tag else f"{self.name}.v{self.version}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """The full name, and the shorter ones that stand for it where nothing else fits them."""
        return (str(self), self.name, *((f"{self.name}.{self.tag}",) if self.tag else ()))


def find(spelling: str, known: Iterable[str]) -> str | None:
    """Return the one full name among `known` that `spelling` stands for, None where there is none.

    Raises:
        UsageError: when it could be several; the sentence names them all.
    """
    names = list(known)
    if spelling in names:
        return spelling
    meant = [name for name in names if spelling in PolicyId.parse(name).spellings]
    if len(meant) > 1:
        raise UsageError(f"{spelling!r} could be any of {', '.join(meant)}; give one of these names.")
    return meant[0] if meant else None


def shown(text: str) -> str:
    """Return foreign text as it may be printed: quoted, short, and without control characters."""
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "…")
