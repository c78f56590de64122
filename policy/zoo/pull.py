"""Bring a policy of a zoo here, whole and verified; what is here needs no network any more."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from prunepolicy.policy.base import StoredPolicy
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.zoo.cache import only_one, policy_place, quarantine
from prunepolicy.policy.zoo.identifiers import find
from prunepolicy.policy.zoo.index import Entry, FileName
from prunepolicy.policy.zoo.settings import configured_source, offline
from prunepolicy.policy.zoo.sources import source_of
from prunepolicy.policy.zoo.transfer import fetch, is_listed, listed_content, read_whole
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.errors import MissingExtraError, PrunePolicyError, UsageError
from prunepolicy.pruning.io.atomic import as_sentence, sync_folder


def find_policy(name: str, source: str | None = None) -> tuple[Zoo, str]:
    """Return the zoo that a policy is of, and its full name; one that was pulled needs no network.

    Raises:
        UsageError: when there is no such policy, or the name could mean several.
        PrunePolicyError: when the zoo can't be reached, or isn't believed.
    """
    place = source_of(configured_source(source))
    with suppress(PrunePolicyError):
        zoo = Zoo.remembered(place)
        full_name = find(name, zoo.index.policies)
        if full_name is not None and is_here(zoo, full_name):
            return zoo, full_name
    zoo = Zoo.open(place.spelling)
    return zoo, zoo.find(name)


def read_policy(zoo: Zoo, name: str) -> StoredPolicy:
    """Return the files of a policy, pulling it on first use; what is returned was checked.

    Args:
        name: full.

    Raises:
        PrunePolicyError: when it can't be had, or isn't what its index lists.
    """
    folder = pull(zoo, name)
    place = "shipped" if zoo.source.in_place else f"zoo {zoo.source.spelling}"
    return StoredPolicy(place, folder, checked_files(folder, zoo.index.policies[name]))


def is_here(zoo: Zoo, name: str) -> bool:
    """Return whether a policy of the full name is here, all of whose files are as listed."""
    return difference(place_of(zoo, name), zoo.index.policies[name]) is None


def place_of(zoo: Zoo, name: str) -> Path:
    """Return where a policy of the full name is, or would be once pulled."""
    if zoo.source.in_place is not None:
        return zoo.source.in_place / name
    return policy_place(name, zoo.index.policies[name])


def pull(zoo: Zoo, name: str) -> Path:
    """Return the folder of a policy, with what is missing brought from the source.

    Args:
        name: full.

    Raises:
        PrunePolicyError: when the source fails, or a file isn't the listed one.
    """
    entry = zoo.index.policies[name]
    if zoo.source.in_place is not None:
        return _checked_in_place(zoo.source.in_place / name, entry)
    place = policy_place(name, entry)
    with only_one(place):
        wrong = difference(place, entry)
        if wrong is None:
            return place
        if place.exists():
            quarantine(place)
        if zoo.source.remote and offline():
            raise PrunePolicyError(
                f"{name} of {zoo.source.spelling} isn't here, and PRUNEPOLICY_OFFLINE or HF_HUB_OFFLINE "
                "forbids a download."
            )
        prepared = place.with_name(f"{place.name}.partial")
        bring(zoo, name, prepared)
        _settle(prepared, place, name)
    return place


def bring(zoo: Zoo, name: str, folder: Path) -> None:
    """Fetch the files of a policy into `folder`, continuing what is there; each is checked.

    Raises:
        PrunePolicyError: when the source fails, or a file isn't the listed one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file, record in zoo.index.policies[name].files.items():
        if not is_listed(folder / file, record):
            fetch(zoo.source, f"{name}/{file}", folder / file, record)


def _settle(prepared: Path, place: Path, name: str) -> None:
    """Put a complete folder in its place, if it holds the policy that it should."""
    try:
        check_is(name, prepared)
    except MissingExtraError:
        raise  # Nothing is wrong with the policy; what was fetched is there for the next try.
    except PrunePolicyError as error:
        aside = quarantine(prepared)
        raise PrunePolicyError(f"{error} It lies in quarantine at {aside}; nothing was installed.") from error
    try:
        sync_folder(prepared)
        os.rename(prepared, place)
        sync_folder(place.parent)
    except OSError as error:
        raise as_sentence(error, place) from error


def check_is(name: str, folder: Path) -> None:
    """Raise `PrunePolicyError` when a folder doesn't hold a readable policy of that full name."""
    found = load_policy_folder(folder).name
    if found != name:
        raise PrunePolicyError(f"{folder} holds the policy {found!r}, not {name}.")


def _checked_in_place(folder: Path, entry: Entry) -> Path:
    wrong = difference(folder, entry)
    if wrong is not None:
        raise PrunePolicyError(f"{wrong} Install the package again.")
    return folder


def difference(folder: Path, entry: Entry) -> str | None:
    """Return in which way a folder isn't what an index lists, as a sentence; None where it is."""
    try:
        checked_files(folder, entry)
    except PrunePolicyError as error:
        return str(error)
    return None


def checked_files(folder: Path, entry: Entry) -> dict[str, bytes]:
    """Return the contents of a policy's files, each read once and as the index lists it.

    Raises:
        PrunePolicyError: when the folder holds something else.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise PrunePolicyError(f"{folder} is missing, or a link that leads elsewhere.")
    if {file.name for file in folder.iterdir()} != {*entry.files}:
        raise PrunePolicyError(f"{folder} doesn't hold the files that the index lists.")
    files: dict[str, bytes] = {}
    for name, record in entry.files.items():
        content = listed_content(folder / name, record)
        if content is None:
            raise PrunePolicyError(
                f"{folder / name} isn't what the index lists: a link, or of other size or SHA-256."
            )
        files[name] = content
    return files


def read_file(zoo: Zoo, name: str, file: FileName) -> bytes:
    """Return one file of a policy, checked, without pulling the others.

    Args:
        name: full.

    Raises:
        UsageError: when the policy has no such file.
        PrunePolicyError: when the source fails, or the file isn't the listed one.
    """
    record = zoo.index.policies[name].files.get(file)
    if record is None:
        raise UsageError(f"{name} of {zoo.source.spelling} has no {file}.")
    with suppress(PrunePolicyError):
        return checked_files(place_of(zoo, name), zoo.index.policies[name])[file]
    if zoo.source.remote and offline():
        raise PrunePolicyError(f"{name} of {zoo.source.spelling} isn't here, and the network is forbidden.")
    content = read_whole(zoo.source, f"{name}/{file}", record.size)
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise PrunePolicyError(f"{name}/{file} of {zoo.source.spelling} isn't the file that the index lists.")
    return content
