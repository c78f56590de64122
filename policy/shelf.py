"""Policies that ship with the package: found by name, and every file checked before one is parsed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from prunepolicy.policy.base import sentence_of
from prunepolicy.pruning.atomic import check_target, publish, write_text
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

SHELF = Path(__file__).parent / "shipped"
INDEX = "index.json"
MOST_BYTES = 1_000_000
"""Of all files of one policy together; what is larger doesn't belong into a package."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\.v[1-9][0-9]*$", max_length=64)]
FileName = Literal["policy.json", "weights.safetensors", "README.md", "card.json"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Index(BaseModel):
    """The content of `index.json`: the hash of every file, by policy. Names can't leave the shelf."""

    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[1] = 1
    policies: dict[Name, dict[FileName, Sha256]] = {}


@dataclass(frozen=True)
class Shelf:
    """A folder of policies and the index that vouches for them."""

    folder: Path

    def index(self) -> Index:
        """Read the index.

        Raises:
            PrunePolicyError: when it is missing or damaged, or names a place outside the shelf.
        """
        file = self.folder / INDEX
        try:
            return Index.model_validate_json(file.read_bytes())
        except OSError as error:
            raise PrunePolicyError(f"Can't read {file}: {error.strerror}.") from error
        except ValidationError as error:
            raise PrunePolicyError(f"{file} is no index: {sentence_of(error, Index)}.") from error

    def find(self, name: str) -> str | None:
        """Return the full name of the policy called `name`, None where there is none.

        Raises:
            UsageError: when the version is left out though there are several.
        """
        known = self.index().policies
        versions = [full for full in known if name in (full, full.rpartition(".")[0])]
        if len(versions) > 1:
            raise UsageError(f"There are several versions of {name!r}; choose from {', '.join(versions)}.")
        return versions[0] if versions else None

    def verified(self, name: str) -> Path:
        """Return the folder of the policy with the full name `name`, all of whose files are as listed.

        Raises:
            PrunePolicyError: when a file was changed, added or taken away, or is a link.
        """
        folder, hashes = self.folder / name, self.index().policies[name]
        if (
            folder.is_symlink()
            or not folder.is_dir()
            or {file.name for file in folder.iterdir()} != {*hashes}
        ):
            raise PrunePolicyError(f"{folder} doesn't hold the files that {INDEX} lists. Install it again.")
        for file, sha256 in hashes.items():
            if hash_of(folder / file) != sha256:
                raise PrunePolicyError(
                    f"{folder / file} isn't what was shipped: its SHA-256 differs from that in {INDEX}. "
                    "Install it again."
                )
        return folder

    def add(self, name: str, prepared: Path) -> None:
        """Move the folder `prepared` onto the shelf as `name`, and list its files.

        Raises:
            UsageError: when the name is no `NAME.vN` or is taken, or the folder holds other files than a
                policy's or too large ones.
        """
        index, files = self.index(), sorted(prepared.iterdir())
        if name in index.policies:
            raise UsageError(f"{name} is on the shelf already, and a version never changes: count it up.")
        if sum(file.stat().st_size for file in files) > MOST_BYTES:
            raise UsageError(f"{name} is larger than {MOST_BYTES:,} bytes, too much to ship.")
        listed = {**index.policies, name: {file.name: hash_of(file) for file in files}}
        try:
            changed = Index.model_validate({"policies": dict(sorted(listed.items()))})
        except ValidationError as error:
            raise UsageError(f"Can't ship {name!r} (NAME.vN): {sentence_of(error, Index)}.") from error
        check_target(self.folder / name, overwrite=True)
        publish(prepared, self.folder / name)
        write_text(self.folder / INDEX, changed.model_dump_json(indent=1) + "\n")


def shipped() -> Shelf:
    """Return the shelf that comes with the package."""
    return Shelf(SHELF)


def hash_of(file: Path) -> str:
    """Return the SHA-256 of a small regular file.

    Raises:
        PrunePolicyError: when it is a link, no file, or larger than any policy that ships.
    """
    if file.is_symlink() or not file.is_file() or file.stat().st_size > MOST_BYTES:
        raise PrunePolicyError(f"{file} is missing, a link, or larger than {MOST_BYTES:,} bytes.")
    return hashlib.sha256(file.read_bytes()).hexdigest()
