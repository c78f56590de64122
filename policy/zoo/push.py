"""Put a policy into a zoo of one's own: list it, sign the index again, and replace that in one step."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, get_args

from pydantic import ValidationError

from prunepolicy.policy.base import read_policy_file, sentence_of
from prunepolicy.policy.zoo.index import LARGEST, Entry, FileName, FileRecord, Index, Listing, parsed_index
from prunepolicy.policy.zoo.pull import check_is, checked_files, difference
from prunepolicy.policy.zoo.settings import trusted
from prunepolicy.policy.zoo.signing import public_text, signed, verified
from prunepolicy.policy.zoo.transfer import check_place
from prunepolicy.policy.zoo.zoo_handle import INDEX
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.atomic import as_sentence, replace_folder, write_bytes
from prunepolicy.pruning.io.bounded import open_regular, read_bytes
from prunepolicy.pruning.io.claim import claiming, release

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    Keys: TypeAlias = Sequence[Ed25519PrivateKey]


@dataclass(frozen=True)
class Parcel:
    """A policy ready to be listed.

    Attributes:
        name: full.
        folder: its files.
        entry: what the index will say.
    """

    name: str
    folder: Path
    entry: Entry

    @classmethod
    def of(cls, name: str, folder: Path, listing: Listing) -> Parcel:
        """Check and measure the files of a policy.

        Raises:
            UsageError: when files are foreign or too large.
            PrunePolicyError: when the folder holds no readable policy of that name.
        """
        files = {file.name: file for file in sorted(folder.iterdir())}
        foreign = sorted(set(files) - set(get_args(FileName)))
        if foreign:
            raise UsageError(f"{folder} holds {', '.join(foreign)}; a policy is {', '.join(LARGEST)}.")
        check_is(name, folder)
        found = {
            "kind": read_policy_file(folder).kind,
            "files": {file: record_of(path) for file, path in files.items()},
        }
        try:
            return cls(name, folder, Entry.model_validate({**listing.model_dump(), **found}))
        except ValidationError as error:
            raise UsageError(f"Can't list {name}: {sentence_of(error, Entry)}.") from error


def record_of(file: Path) -> FileRecord:
    """Return size and hash of a file."""
    with open_regular(file) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileRecord(sha256=sha256, size=file.stat().st_size)


def push(parcel: Parcel, folder: Path, keys: Keys) -> Index:
    """Put a policy into the zoo in `folder`, which may be empty or absent, and return its new index.

    Raises:
        UsageError: when the policy is there already, or another process is changing the zoo.
        PrunePolicyError: when the index that is there isn't signed by a trusted key or one of `keys`.
    """
    try:
        with claiming(folder / INDEX):
            index = own_index(folder, keys).with_policy(parcel.name, parcel.entry)

            def write(place: Path) -> None:
                shutil.copytree(parcel.folder, place)
                checked_files(place, parcel.entry)

            check_place(folder / parcel.name)
            replace_folder(folder / parcel.name, write)
            write_bytes(folder / INDEX, signed(index.to_bytes(), keys))
    except OSError as error:
        raise as_sentence(error, folder) from error
    finally:
        release(folder / INDEX)
    return index


def sign_again(folder: Path, keys: Keys, expires: date | None = None) -> Index:
    """Sign the index of the zoo in `folder` with other keys, and return it.

    Args:
        expires: the last day on which it is to count as current, where that changes.

    Raises:
        PrunePolicyError: when there is none, no trusted key and none of `keys` has signed it, or a policy
            isn't what it lists.
    """
    if not (folder / INDEX).is_file():
        raise PrunePolicyError(f"{folder} holds no {INDEX}, so it is no zoo.")
    index = own_index(folder, keys)
    for name, entry in index.policies.items():
        if wrong := difference(folder / name, entry):
            raise PrunePolicyError(f"{wrong} Nothing was signed.")
    index = index if expires is None else index.until(expires)
    write_bytes(folder / INDEX, signed(index.to_bytes(), keys))
    return index


def own_index(folder: Path, keys: Keys) -> Index:
    """Return the index of a folder that is to be changed, an empty one where there is none yet.

    Raises:
        PrunePolicyError: when no trusted key and none of `keys` has signed it.
    """
    if not (folder / INDEX).exists():
        return Index.empty()
    return index_signed_by(keys, read_bytes(folder / INDEX), str(folder))


def index_signed_by(keys: Keys, data: bytes, where: str) -> Index:
    """Return an index that a trusted key or one of `keys` has signed."""
    return parsed_index(verified(data, (*trusted(), *map(public_text, keys)), where).text, where)
