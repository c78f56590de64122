"""What the model goes on with after a text, as more tokens of it."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from prunepolicy.policy.text_scores.blend import UNTUNED, blended
from prunepolicy.policy.text_scores.registry import KnownTexts, TextScorer, apart, flat, text_scorers
from prunepolicy.pruning.statistics.text_energy import TextEnergy

WRITTEN, BEYOND = 128, 64.0
"""Tokens that what the model went on with counts for, and the generic statistic where there is such."""


@text_scorers.register
class Ahead(TextScorer):
    """The blend, with what the model itself goes on with after the tokens beside them.

    A model that has read some tokens of a text knows what others may follow: its own words are of the text's
    kind, and as many as one likes.
    """

    looks_ahead: ClassVar[bool] = True

    def fit(self, known: KnownTexts) -> None:
        """Remember the generic statistic."""
        self.numbers = {"generic": flat(known.generic.energy)}

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the weighted mean of the three; without the model's words, the blend."""
        generic = apart(self.numbers["generic"], few.energy)
        if few.ahead is None:
            return blended(few, generic, UNTUNED)
        seen = TextEnergy.pooled([few, TextEnergy(WRITTEN, few.ahead.energy)])
        return blended(seen, generic, BEYOND)
