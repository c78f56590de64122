"""What was seen of a zoo, by the key that signs it: its newest serial, and the hashes of every version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from prunepolicy.policy.weights import read_regular
from prunepolicy.policy.zoo.cache import only_one, zoo_cache
from prunepolicy.policy.zoo.index import Index
from prunepolicy.policy.zoo.sources import Source
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import write_bytes
from prunepolicy.pruning.io.bounded import parsed_json

COPIES = ("first", "second")
MOST_BYTES = 64 << 20


class Seen(BaseModel):
    """What a key has signed so far.

    Attributes:
        serials: of its newest indexes, by the lines of sources.
        hashes: of a policy, by full name, over the files that decide; by full name and semantic version,
            over all files.
    """

    model_config = ConfigDict(extra="forbid")
    serials: dict[str, int] = Field(default_factory=dict)
    hashes: dict[str, str] = Field(default_factory=dict)

    def check(self, index: Index, source: Source, place: Path) -> None:
        """Raise `PrunePolicyError` when an index is older, or gives a known version other files."""
        where, serial = source.spelling, self.serials.get(source.line, 0)
        anew = f"If its owner has started over, delete {place} and repeat."
        if index.serial < serial:
            raise PrunePolicyError(
                f"{where} shows an older index (serial {index.serial}) than it has shown before "
                f"({serial}). A copy has to be brought up to date. {anew}"
            )
        for version, digest in hashes_of(index).items():
            if self.hashes.get(version, digest) != digest:
                raise PrunePolicyError(
                    f"{where} lists {version} with other files than before; versions never change. {anew}"
                )

    def with_index(self, index: Index, line: str) -> Seen:
        """Return what is known after seeing one more index."""
        return self.merged(Seen(serials={line: index.serial}, hashes=hashes_of(index)))

    def merged(self, other: Seen) -> Seen:
        """Return what both know."""
        serials = dict(self.serials)
        for line, serial in other.serials.items():
            serials[line] = max(serials.get(line, 0), serial)
        return Seen(serials=serials, hashes={**self.hashes, **other.hashes})


def hashes_of(index: Index) -> dict[str, str]:
    """Return what must stay the same of every policy that an index lists."""
    decisive = {name: entry.decision_digest for name, entry in index.policies.items()}
    return decisive | {f"{name} {entry.version}": entry.digest for name, entry in index.policies.items()}


@dataclass(frozen=True)
class Memory:
    """What was seen of the zoo of one key, kept twice, so that damage to one file loses nothing."""

    key: str

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return zoo_cache() / "seen" / self.key

    def take_in(self, index: Index, source: Source) -> None:
        """Check an index against what was seen before, and remember it.

        Raises:
            PrunePolicyError: when it is older, changes a version, or all that was kept is damaged.
        """
        with only_one(self.folder):
            seen = self._recalled()
            seen.check(index, source, self.folder)
            text = seen.with_index(index, source.line).model_dump_json().encode()
            for copy in COPIES:
                write_bytes(self.folder / copy, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)

    def _recalled(self) -> Seen:
        """Return what all undamaged copies know together."""
        kept = [self.folder / copy for copy in COPIES if (self.folder / copy).exists()]
        known = [seen for file in kept if (seen := _read(file)) is not None]
        if kept and not known:
            raise PrunePolicyError(
                f"What was seen of the zoo with the key {self.key} is damaged; delete {self.folder} to trust "
                "what it shows now."
            )
        return reduce(Seen.merged, known, Seen())


def _read(file: Path) -> Seen | None:
    try:
        digest, _, text = read_regular(file, MOST_BYTES).partition(b"\n")
        whole = hashlib.sha256(text).hexdigest().encode() == digest
        return Seen.model_validate(parsed_json(text)) if whole else None
    except (PrunePolicyError, ValueError):
        return None
