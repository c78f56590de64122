"""An opened zoo: a source and the index that was believed after its signature was checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prunepolicy.policy.zoo.cache import index_place, quarantine
from prunepolicy.policy.zoo.identifiers import find, shown
from prunepolicy.policy.zoo.index import MOST_INDEX_BYTES, Index, parsed_index
from prunepolicy.policy.zoo.settings import PACKAGE, configured_source, offline, pinned, trusted
from prunepolicy.policy.zoo.signing import verified
from prunepolicy.policy.zoo.sources import Source, source_of
from prunepolicy.policy.zoo.sources.registry import InterruptedTransferError
from prunepolicy.policy.zoo.transfer import read_whole
from prunepolicy.pruning.atomic import write_bytes
from prunepolicy.pruning.errors import PrunePolicyError, UsageError, did_you_mean

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
            index = believed(signed, source)
        except UsageError:
            raise
        except PrunePolicyError as error:
            raise PrunePolicyError(f"{error}{_set_aside(signed, source)}") from error
        if source.in_place is None:
            _remember(source, signed, index)
        return cls(source, index, signed)

    @classmethod
    def remembered(cls, source: Source) -> Zoo:
        """Return the index that a source had when it was read last.

        Raises:
            PrunePolicyError: when it never was read.
        """
        try:
            signed = index_place(source.identity).read_bytes()
        except OSError as error:
            raise PrunePolicyError(
                f"{source.spelling} was never read and the network is forbidden (PRUNEPOLICY_OFFLINE or "
                "HF_HUB_OFFLINE); pull once with network, or give a mirror as --source."
            ) from error
        return cls(source, believed(signed, source), signed)

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


def believed(signed: bytes, source: Source) -> Index:
    """Return the index of a source after checking its signature; what ships needs a pinned key.

    Raises:
        PrunePolicyError: when no trusted key has signed it, or it is damaged.
    """
    keys: Iterable[str] = pinned() if source.spelling == PACKAGE else trusted()
    where = source.spelling
    return parsed_index(verified(signed, keys, where), where)


def _remember(source: Source, signed: bytes, index: Index) -> None:
    """Keep the index for use without network; refuse one that is older than the one that is kept."""
    place = index_place(source.identity)
    known = _kept_serial(place, source)
    if known > index.serial:
        raise PrunePolicyError(
            f"{source.spelling} shows an older index (serial {index.serial}) than it has shown before "
            f"({known}). If its owner has started anew, delete {place} and repeat."
        )
    write_bytes(place, signed)


def _kept_serial(place: Path, source: Source) -> int:
    """Return the serial of the index that is kept; 0 where there is none that can be believed."""
    try:
        return believed(place.read_bytes(), source).serial
    except (OSError, PrunePolicyError):
        return 0


def _set_aside(signed: bytes, source: Source) -> str:
    """Put an index that isn't believed into quarantine, and say where; nothing where it stays its owner's."""
    if not source.remote:
        return ""
    place = index_place(source.identity).with_suffix(".refused")
    write_bytes(place, signed)
    return f" It lies in quarantine at {quarantine(place)}."
