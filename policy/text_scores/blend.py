"""Shrinkage towards the generic statistic, which counts for as many tokens as it is worth."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunepolicy.policy.text_scores.agreement import best_setting
from prunepolicy.policy.text_scores.registry import (
    KnownText,
    KnownTexts,
    TextScorer,
    apart,
    flat,
    text_scorers,
)
from prunepolicy.pruning.statistics.text_energy import TextEnergy

WEIGHTS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
UNTUNED = 256.0
"""Tokens that the generic statistic counts for where nothing was learned."""


@text_scorers.register
class Blend(TextScorer):
    """(n e + w g) / (n + w), with one w for all channels."""

    def fit(self, known: KnownTexts) -> None:
        """Choose w on the training domains."""

        def estimate(weight: float, text: KnownText, few: TextEnergy) -> Mapping[str, Tensor]:
            return blended(few, known.generic.energy, weight)

        weight = best_setting(WEIGHTS, estimate, known)
        self.numbers = {"generic": flat(known.generic.energy), "weight": torch.tensor([weight])}

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the weighted mean of both."""
        return blended(few, apart(self.numbers["generic"], few.energy), float(self.numbers["weight"]))


def blended(few: TextEnergy, generic: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Return the mean of a text's statistic and one that counts for `weight` tokens."""
    total = few.tokens + weight
    return {name: (few.tokens * own + weight * generic[name]) / total for name, own in few.energy.items()}
