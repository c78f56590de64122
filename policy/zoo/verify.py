"""Check again what is here: signature, sizes, hashes, schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from prunepolicy.policy.zoo.pull import check_is, difference, place_of
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.errors import MissingExtraError, PrunePolicyError

State = Literal["ok", "bad", "not pulled", "not opened"]


@dataclass(frozen=True)
class Finding:
    """What is known of one policy after looking."""

    name: str
    state: State
    sentence: str


def verify(zoo: Zoo, names: Iterable[str]) -> tuple[Finding, ...]:
    """Check the policies of a zoo that are here; the index's signature was checked when it was opened."""
    return tuple(_verified(zoo, name) for name in names)


def _verified(zoo: Zoo, name: str) -> Finding:
    entry = zoo.index.policies[name]
    folder = place_of(zoo, name)
    if not folder.exists():
        return Finding(name, "not pulled", "It isn't here; `prunepolicy zoo pull` brings it.")
    wrong = difference(folder, entry)
    if wrong is None:
        try:
            check_is(name, folder)
        except MissingExtraError as error:
            return Finding(name, "not opened", f"Signed and hashed as listed, but not read here. {error}")
        except PrunePolicyError as error:
            wrong = str(error)
    files = f"{len(entry.files)} files, {entry.size:,} bytes, signed, hashed and readable."
    return Finding(name, "bad" if wrong else "ok", wrong or files)
