"""One choice for every text, from text of all kinds."""

from __future__ import annotations

from torch import Tensor

from prunepolicy.policy.text_scores.registry import KnownTexts, TextScorer, apart, flat, text_scorers
from prunepolicy.pruning.statistics.text_energy import TextEnergy


@text_scorers.register
class Generic(TextScorer):
    """Ignores the text."""

    def fit(self, known: KnownTexts) -> None:
        """Remember the generic statistic."""
        self.numbers = {"generic": flat(known.generic.energy)}

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the generic statistic."""
        return apart(self.numbers["generic"], few.energy)
