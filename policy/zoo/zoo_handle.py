"""Handle of an opened zoo: a source and its index, whose signature was verified."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from prunepolicy.policy.zoo.cache import index_place, quarantine
from prunepolicy.policy.zoo.identifiers import find, shown
from prunepolicy.policy.zoo.index import MOST_INDEX_BYTES, Index, parsed_index
from prunepolicy.policy.zoo.memory import Memory
from prunepolicy.policy.zoo.settings import PACKAGE, configured_source, offline, pinned, trusted
from prunepolicy.policy.zoo.signing import verified
from prunepolicy.policy.zoo.sources import Source, source_of
from prunepolicy.policy.zoo.sources.registry import InterruptedTransferError
from prunepolicy.policy.zoo.transfer import read_whole
from prunepolicy.pruning.errors import PrunePolicyError, UsageError, did_you_mean
from prunepolicy.pruning.io.atomic import write_bytes
from prunepolicy.pruning.io.bounded import read_bytes

logger = logging.getLogger(__name__)

INDEX = "index.signed"


@dataclass(frozen=True)
class Zoo:
    """Policies of one source.

    Attributes:
        signed: the index with its signatures, byte by byte.
    """

    source: Source
    index: Index
    signed: bytes

    @classmethod
    def open(cls, spelling: str | None = None) -> Zoo:
        """Read the index that a source has now; offline, the one it had when it was read last.

        Args:
            spelling: what `--source` takes; None for what environment and settings say.

        Raises:
            UsageError: when settings are wrong.
            PrunePolicyError: when there is none, or it isn't signed by a trusted key.
        """
        source = source_of(configured_source(spelling))
        if source.remote and offline():
            return cls.remembered(source)
        try:
            signed = read_whole(source, INDEX, MOST_INDEX_BYTES)
        except InterruptedTransferError as error:
            known = index_place(source.identity).is_file()
            hint = " With PRUNEPOLICY_OFFLINE=1 its last index and all that was pulled work." if known else ""
            raise InterruptedTransferError(f"{error}{hint}") from error
        try:
            index, keys = verified_index(signed, source)
        except UsageError:
            raise
        except PrunePolicyError as error:
            raise PrunePolicyError(f"{error}{_set_aside(signed, source)}") from error
        if source.in_place is None:
            for key in keys:
                Memory(key).take_in(index, source)
            write_bytes(index_place(source.identity), signed)
        return cls(source, index, signed)

    @classmethod
    def remembered(cls, source: Source) -> Zoo:
        """Return the index that a source had when it was read last.

        Raises:
            PrunePolicyError: when it never was read.
        """
        try:
            signed = read_bytes(index_place(source.identity))
        except OSError as error:
            raise PrunePolicyError(
                f"{source.spelling} was never read and the network is forbidden (PRUNEPOLICY_OFFLINE or "
                "HF_HUB_OFFLINE); pull once with network, or give a mirror as --source."
            ) from error
        return cls(source, verified_index(signed, source)[0], signed)

    def find(self, name: str) -> str:
        """Return the full name of a policy.

        Raises:
            UsageError: when there is none of that name, or there are several.
        """
        known = self.index.policies
        full_name = find(name, known)
        if full_name is None:
            raise UsageError(
                f"There is no policy {shown(name)} in the zoo at {self.source.spelling}."
                f"{did_you_mean(name, known)}"
            )
        return full_name


def verified_index(signed: bytes, source: Source) -> tuple[Index, tuple[str, ...]]:
    """Return the index of a source after checking its signature, and the names of its keys.

    What ships needs a pinned key. An index past its last day is believed with a warning.

    Raises:
        PrunePolicyError: when no trusted key has signed it, one signs for names that aren't its own, or it
            is damaged.
    """
    keys: Iterable[str] = pinned() if source.spelling == PACKAGE else trusted()
    where = source.spelling
    found = verified(signed, keys, where)
    index = parsed_index(found.text, where)
    for name in index.policies:
        if not name.startswith(found.prefixes):
            raise PrunePolicyError(
                f"The index of {where} lists {name}, and the key {found.keys[0]} is trusted only for names "
                f"that begin with {' or '.join(found.prefixes)}."
            )
    if index.expires is not None and datetime.now(UTC).date() > index.expires:
        logger.warning("The index of %s was current until %s; look for a newer one.", where, index.expires)
    return index, found.keys


def _set_aside(signed: bytes, source: Source) -> str:
    """Put an index that isn't believed into quarantine, and say where; nothing where it stays its owner's."""
    if not source.remote:
        return ""
    place = index_place(source.identity).with_suffix(".refused")
    write_bytes(place, signed)
    return f" It lies in quarantine at {quarantine(place)}."
