"""Pack what a run has learned for a zoo: the policy under its new name, and its card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prunepolicy.agents.learned_pruning.policy_card import PolicyCard, check_portable, read_card
from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.training.run_folder import BEST, cpu_spent
from prunepolicy.commands.zoo.rescore import witness_of
from prunepolicy.policy.base import POLICY_FILE, Policy
from prunepolicy.policy.hub_card import front_matter
from prunepolicy.policy.load import built_in_policies, load_policy_folder
from prunepolicy.policy.weights import WEIGHTS_FILE
from prunepolicy.policy.zoo.identifiers import PolicyId
from prunepolicy.policy.zoo.index import Listing
from prunepolicy.policy.zoo.push import Parcel, push
from prunepolicy.policy.zoo.sources.package import SHIPPED
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import checked
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.io.temporary import temporary_folder

if TYPE_CHECKING:
    from prunepolicy.policy.zoo.push import Keys

MOST_BYTES = 1_000_000
"""Of all files of a policy that ships; what is larger belongs into a zoo elsewhere."""


@dataclass(frozen=True)
class Addition:
    """What a card gets that the run didn't write.

    Attributes:
        caveat: what benchmarks found that the run didn't; it leads the card, whose verdict is then a tie at
            best.
        witness: a model to score as well, which others can get; none where it is empty.
        steps: progress reporter.
    """

    caveat: str = ""
    witness: str = ""
    progress: ProgressReporter = field(default_factory=ProgressReporter)


NOTHING = Addition()


def ship(
    run: Path,
    name: str,
    keys: Keys,
    folder: Path = SHIPPED,
    addition: Addition = NOTHING,
    version: str | None = None,
) -> None:
    """Put the best policy of a run among those that come with the package.

    Args:
        name: of the form NAME.vN or NAME.TAG-vN.
        version: semantic; a later one may change the card of a policy that is there.

    Raises:
        UsageError: when the name doesn't fit or is taken, the policy is large, or its card names places on
            this machine.
    """
    full_name, listing = listing_of(run, name, version)
    with packed(run, full_name, addition, listing) as parcel:
        if parcel.entry.size > MOST_BYTES:
            raise UsageError(f"{name} is larger than {MOST_BYTES:,} bytes, too much to ship.")
        push(parcel, folder, keys)


@contextmanager
def packed(
    run: Path,
    name: str,
    addition: Addition = NOTHING,
    listing: Listing | None = None,
    source: str | None = None,
) -> Iterator[Parcel]:
    """Hold a copy of a run's best policy, renamed, with its card, as long as the block lasts.

    Args:
        run: a run's folder, or that of a policy with a card.
        listing: what the index will say; by default the first version, learned by what the card says.
        source: what the card tells to give as `--policy`; by default the name.

    Raises:
        UsageError: when the name doesn't fit, or the card names places on this machine.
    """
    full_name = PolicyId.parse(name)
    if full_name.name in built_in_policies():
        raise UsageError(f"{name!r} would be taken for the built-in policy; choose another name.")
    best = best_of(run)
    policy, card = load_policy_folder(best), read_card(best)
    check_portable(card)
    if listing is None:
        listing = Listing(version=f"{full_name.version}.0.0", source=origin(card))
    known = card.cpu_seconds if card.cpu_seconds is not None else cpu_spent(run)
    witness = card.witness
    if addition.witness:
        witness = witness_of(best, addition.witness, addition.progress)
    changes = {"name": name, "cpu_seconds": known, "witness": witness}
    with temporary_folder() as folder:
        _copy_policy(policy, best, name, folder)
        qualified = _qualified(card, addition.caveat).model_copy(update=changes)
        head = front_matter(card.kind, listing.licence)
        write_policy_card(qualified, folder, source or name, head)
        yield Parcel.of(name, folder, listing)


def _copy_policy(policy: Policy, folder: Path, name: str, target: Path) -> None:
    """Write a policy under a name; under the one it has, with the same bytes, whatever schema they are of."""
    if policy.name == name:
        for file in (POLICY_FILE, WEIGHTS_FILE):
            if (folder / file).is_file():
                shutil.copyfile(folder / file, target / file)
        return
    policy.name = name
    policy.save(target)


def listing_of(
    run: Path, name: str | None, version: str | None, licence: str = "Apache-2.0"
) -> tuple[str, Listing]:
    """Return the full name of a run's policy in a zoo, and what the index will say of it.

    Args:
        name: full; by default the policy's own, where that is one.

    Raises:
        UsageError: when name, version or licence can't be.
    """
    best = best_of(run)
    full_name = PolicyId.parse(load_policy_folder(best).name if name is None else name)
    given = {"version": version or f"{full_name.version}.0.0", "licence": licence}
    return str(full_name), checked(Listing, {**given, "source": origin(read_card(best))}, "the listing")


def best_of(run: Path) -> Path:
    """Return the folder of a run's best policy; a policy's folder is its own.

    Raises:
        UsageError: when there is none.
    """
    for folder in (run, run / BEST):
        if (folder / POLICY_FILE).is_file():
            return folder
    raise UsageError(f"{run} holds no policy; give the folder of a finished run, or that of a policy.")


def origin(card: PolicyCard) -> str:
    """Return in a line where a policy comes from."""
    return (
        f"learned by {card.recipe['algorithm']}, seeds {', '.join(map(str, card.seeds))}; recipe in card.json"
    )


def _qualified(card: PolicyCard, caveat: str) -> PolicyCard:
    """Put a caveat before the verdict: it can lower what a run says of itself, never raise it."""
    if not caveat:
        return card
    word = "ties" if card.word == "beats" else card.word
    return card.model_copy(update={"word": word, "verdict": f"{caveat} {card.verdict}"})
