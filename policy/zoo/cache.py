"""Where pulled policies lie: among the hub's assets, by name and hash of their files."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from prunepolicy.policy.zoo.index import Entry
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import as_sentence
from prunepolicy.pruning.io.cache import cache_home

LONGEST_WAIT = 600
"""Seconds for another process that pulls the same policy."""


def zoo_cache() -> Path:
    """Return the cache folder, by the hub's conventions for the assets of libraries."""
    assets = os.environ.get("HF_ASSETS_CACHE")
    home = os.environ.get("HF_HOME")
    if not assets and not home:
        home = str(cache_home() / "huggingface")
    place = Path(os.path.expandvars(os.path.expanduser(assets or f"{home}/assets")))
    return place / "prunepolicy" / "zoo"


def policy_place(name: str, entry: Entry) -> Path:
    """Return the folder of a pulled policy; other files of that name would have another one."""
    return zoo_cache() / "policies" / name / entry.digest[:16]


def index_place(identity: str) -> Path:
    """Return where the index of a source is kept for use without network."""
    return zoo_cache() / "indexes" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.signed"


@contextmanager
def only_one(place: Path) -> Iterator[None]:
    """Let one process at a time work at a place of the cache; others wait.

    Raises:
        PrunePolicyError: when the other one doesn't finish, or the cache can't be written.
    """
    lock = place.with_name(f"{place.name}.lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=LONGEST_WAIT):
            yield
    except Timeout as error:
        raise PrunePolicyError(
            f"Another process has been pulling {place.parent.name} for too long."
        ) from error
    except OSError as error:
        raise as_sentence(error, place) from error


def quarantine(found: Path) -> Path:
    """Move a file or folder that isn't what it should be out of the way, and return where to."""
    place = zoo_cache() / "quarantine" / "-".join(found.parts[-3:])
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    os.replace(found, place)
    return place
