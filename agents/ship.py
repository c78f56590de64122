"""Put what a run has learned on the shelf of policies that come with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from prunepolicy.agents.policy_card import PolicyCard, read_card
from prunepolicy.agents.policy_card_text import write_policy_card
from prunepolicy.agents.run_folder import BEST
from prunepolicy.policy.load import built_in_policies, load_policy_folder
from prunepolicy.policy.shelf import Shelf
from prunepolicy.pruning.atomic import partial_folder
from prunepolicy.pruning.errors import UsageError


def ship(run: Path, name: str, shelf: Shelf, caveat: str = "") -> None:
    """Copy the best policy of the run folder `run`, renamed, with its card.

    Args:
        name: of the form NAME.vN.
        caveat: what benchmarks found that the run didn't; it leads the card, whose verdict is then a tie
            at best.

    Raises:
        UsageError: when the name doesn't fit, or the card names places on this machine.
    """
    if name.rpartition(".")[0] in built_in_policies():
        raise UsageError(f"{name!r} would be taken for the built-in policy; choose another name.")
    policy, card = load_policy_folder(run / BEST), read_card(run / BEST)
    check_portable(card)
    policy.name = name
    prepared = partial_folder(shelf.folder / "prepared")
    shutil.rmtree(prepared, ignore_errors=True)
    try:
        policy.save(prepared)
        write_policy_card(_qualified(card, caveat).model_copy(update={"name": name}), prepared, source=name)
        shelf.add(name, prepared)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)


def _qualified(card: PolicyCard, caveat: str) -> PolicyCard:
    """Put a caveat before the verdict: it can lower what a run says of itself, never raise it."""
    if not caveat:
        return card
    word = "ties" if card.word == "beats" else card.word
    return card.model_copy(update={"word": word, "verdict": f"{caveat} {card.verdict}"})


def check_portable(card: PolicyCard) -> None:
    """Raise `UsageError` when a card names models or texts by places that only this machine has."""
    text = card.recipe["evaluation"]["text"]
    for place in (*card.models, *card.held_out, *([text] if text else [])):
        if Path(place).is_absolute():
            raise UsageError(f"The card names {place}, which others don't have; train with a relative name.")
