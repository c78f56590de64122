"""Importance on the text held against importance on text of all kinds (D-Pruner's idea).

Source: Zhang et al., "Pruning as a Domain-specific LLM Extractor": one weight between what a domain needs and
what everything needs.
"""

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

WEIGHTS = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5)
SMALLEST = 1e-12


@text_scorers.register
class Contrast(TextScorer):
    """e (e / g)^w: above 0 what only the text needs counts more, below 0 what everything needs."""

    def fit(self, known: KnownTexts) -> None:
        """Choose w on the training domains."""

        def estimate(weight: float, text: KnownText, few: TextEnergy) -> Mapping[str, Tensor]:
            return _contrasted(few, known.generic.energy, weight)

        weight = best_setting(WEIGHTS, estimate, known)
        self.numbers = {"generic": flat(known.generic.energy), "weight": torch.tensor([weight])}

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the text's energies, weighted by their ratio to the generic ones."""
        return _contrasted(few, apart(self.numbers["generic"], few.energy), float(self.numbers["weight"]))


def _contrasted(few: TextEnergy, generic: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    return {
        name: own * (own.clamp(min=SMALLEST) / generic[name].clamp(min=SMALLEST)) ** weight
        for name, own in few.energy.items()
    }
