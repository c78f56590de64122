"""The index of a zoo: of every policy its files with size and hash, version, licence and origin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as checks_model

from prunepolicy.policy.base import sentence_of
from prunepolicy.policy.zoo.identifiers import PolicyId
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io import bounded

INDEX_SCHEMA: Final = 1
MOST_INDEX_BYTES = 4 << 20
MOST_POLICIES = 4096
FileName = Literal["policy.json", "weights.safetensors", "README.md", "card.json"]
LARGEST: dict[FileName, int] = {
    "policy.json": 1 << 20,
    "weights.safetensors": 64 << 20,
    "README.md": 1 << 20,
    "card.json": 4 << 20,
}
"""Bytes that a file may have; checked in the index, so before anything of the file is read."""
DECISIVE: tuple[FileName, ...] = ("policy.json", "weights.safetensors")
"""A version never changes these; the others are its card."""


def _full_name(text: str) -> str:
    try:
        return str(PolicyId.parse(text))
    except UsageError as error:
        raise ValueError(str(error)) from error


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters")
    return text


FullName = Annotated[str, AfterValidator(_full_name)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}\.[0-9]{1,6}\.[0-9]{1,6}$")]
Licence = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+() -]{1,100}$")]
Line = Annotated[str, StringConstraints(max_length=500), AfterValidator(_printable)]


class IndexPart(BaseModel):
    """A part of an index; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(IndexPart):
    """What a file must be."""

    sha256: Sha256
    size: int = Field(ge=0)


class Listing(IndexPart):
    """What a publisher says of a policy.

    Attributes:
        version: semantic; its first number is that of the name, the others count changes to the card.
        licence: SPDX expression.
        source: where the policy comes from.
    """

    version: Version
    licence: Licence = "Apache-2.0"
    source: Line = ""


class Entry(Listing):
    """One policy of a zoo."""

    kind: Line
    files: dict[FileName, FileRecord]

    @checks_model(mode="after")
    def _check_files(self) -> Self:
        if "policy.json" not in self.files:
            raise ValueError("a policy has a policy.json")
        for name, record in self.files.items():
            if record.size > LARGEST[name]:
                raise ValueError(f"{name} may have {LARGEST[name]} bytes at most")
        return self

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(record.size for record in self.files.values())

    @property
    def digest(self) -> str:
        """One hash over all files."""
        return _digest(self.files)

    @property
    def decision_digest(self) -> str:
        """One hash over the files that decide; the others describe."""
        return _digest({name: self.files[name] for name in DECISIVE if name in self.files})


def _digest(files: Mapping[FileName, FileRecord]) -> str:
    listed = "".join(f"{name} {record.sha256}\n" for name, record in sorted(files.items()))
    return hashlib.sha256(listed.encode()).hexdigest()


class Index(IndexPart):
    """All policies of a zoo by full name.

    Attributes:
        expires: the last day on which the index counts as current; None for no such day.
        serial: counts up with every change, so that an old index can't be passed off as the current one.
    """

    schema_version: Literal[1]
    serial: int = Field(ge=0, lt=1 << 53)
    policies: dict[FullName, Entry] = Field(max_length=MOST_POLICIES)
    expires: date | None = None

    @classmethod
    def empty(cls) -> Index:
        """Return the index of a zoo before its first policy."""
        return cls(schema_version=INDEX_SCHEMA, serial=0, policies={})

    @checks_model(mode="after")
    def _check_versions(self) -> Self:
        for name, entry in self.policies.items():
            if PolicyId.parse(name).version != int(entry.version.partition(".")[0]):
                raise ValueError(f"{name} can't have the version {entry.version}")
        return self

    def to_bytes(self) -> bytes:
        """Return the index as text that reads well and is always the same."""
        return (self.model_dump_json(indent=1, exclude_none=True) + "\n").encode()

    def with_policy(self, name: str, entry: Entry) -> Index:
        """Return the index with one policy more, or with one whose card has changed.

        Raises:
            UsageError: when it is listed with other decisions, or with no lower version.
        """
        PolicyId.parse(name)
        old = self.policies.get(name)
        if old is not None:
            _check_change(name, old, entry)
        listed = dict(sorted({**self.policies, name: entry}.items()))
        try:
            return Index.model_validate({**dict(self), "serial": self.serial + 1, "policies": listed})
        except ValidationError as error:
            raise UsageError(f"Can't list {name}: {sentence_of(error, Index)}.") from error

    def until(self, expires: date) -> Index:
        """Return the index as it is current until the end of that day."""
        return self.model_copy(update={"serial": self.serial + 1, "expires": expires})


def _check_change(name: str, old: Entry, new: Entry) -> None:
    if old.decision_digest != new.decision_digest:
        raise UsageError(f"{name} is there already, and its decisions never change: count up its name.")
    if _numbers(new.version) <= _numbers(old.version):
        raise UsageError(
            f"{name} is there already with version {old.version}; a changed card needs a higher one "
            "(--version)."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def parsed_index(text: bytes, where: str) -> Index:
    """Check the content of an index, whose signature was checked before.

    Raises:
        PrunePolicyError: when it is damaged, or of a later schema.
    """
    if len(text) > MOST_INDEX_BYTES:
        raise PrunePolicyError(f"The index of {where} is larger than {MOST_INDEX_BYTES:,} bytes.")
    try:
        data = bounded.parsed_json(text)
    except ValueError as error:
        raise PrunePolicyError(f"The index of {where} is no index: {bounded.why(error)}.") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is int and version > INDEX_SCHEMA:
        raise PrunePolicyError(f"The index of {where} has the schema {version}: install a newer prunepolicy.")
    try:
        return Index.model_validate(data)
    except ValidationError as error:
        raise PrunePolicyError(f"The index of {where} is no index: {sentence_of(error, Index)}.") from error
