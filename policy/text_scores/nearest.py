"""The choice that was made for the most similar domain."""

from __future__ import annotations

from torch import Tensor

from prunepolicy.policy.text_scores.bank import bank_of, distances
from prunepolicy.policy.text_scores.registry import KnownTexts, TextScorer, apart, text_scorers
from prunepolicy.pruning.statistics.text_energy import TextEnergy


@text_scorers.register
class Nearest(TextScorer):
    """Takes the energies of the nearest training domain."""

    def fit(self, known: KnownTexts) -> None:
        """Remember the domains."""
        self.numbers = {"bank": bank_of(known)}

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the energies of the domain that the tokens are most like."""
        bank = self.numbers["bank"]
        return apart(bank[distances(bank, few).argmin()].exp(), few.energy)
