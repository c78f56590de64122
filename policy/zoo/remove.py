"""Delete what was pulled."""

from __future__ import annotations

import shutil
from pathlib import Path

from prunepolicy.policy.zoo.cache import only_one, zoo_cache
from prunepolicy.policy.zoo.identifiers import PolicyId, find, shown
from prunepolicy.pruning.errors import UsageError, did_you_mean
from prunepolicy.pruning.io.atomic import as_sentence


def pulled_names() -> list[str]:
    """Return the full names of the policies that were pulled, from whichever source."""
    folder = zoo_cache() / "policies"
    return sorted(place.name for place in folder.iterdir() if place.is_dir()) if folder.is_dir() else []


def remove(name: str) -> tuple[str, int]:
    """Delete the pulled policy of a name, and return its full name and the bytes that this freed.

    Raises:
        UsageError: when none was pulled, or the name could mean several.
        PrunePolicyError: when it can't be deleted.
    """
    names = pulled_names()
    full_name = find(name, names)
    if full_name is None:
        raise UsageError(f"No policy {shown(name)} was pulled.{did_you_mean(name, names)}")
    folder = zoo_cache() / "policies" / str(PolicyId.parse(full_name))
    freed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    for version in list(folder.iterdir()):
        if version.is_dir():
            _remove_one(version)
    shutil.rmtree(folder, ignore_errors=True)
    return full_name, freed


def _remove_one(folder: Path) -> None:
    with only_one(folder):  # Nobody pulls it at the same time.
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise as_sentence(error, folder) from error
