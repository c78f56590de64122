"""The blend with the generic statistic, with a weight for every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from prunepolicy.policy.text_scores.agreement import best_setting
from prunepolicy.policy.text_scores.blend import WEIGHTS, blended
from prunepolicy.policy.text_scores.registry import (
    KnownText,
    KnownTexts,
    TextScorer,
    apart,
    flat,
    text_scorers,
)
from prunepolicy.pruning.statistics.text_energy import TextEnergy


@text_scorers.register
class BlendPerLayer(TextScorer):
    """(n e + w g) / (n + w), with one w per group of channels."""

    def fit(self, known: KnownTexts) -> None:
        """Choose every w on the training domains, as the group alone would be served best."""
        weights = [_weight_of(name, known) for name in known.generic.energy]
        self.numbers = {"generic": flat(known.generic.energy), "weights": torch.tensor(weights)}

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the weighted means."""
        generic = apart(self.numbers["generic"], few.energy)
        weights = dict(zip(few.energy, self.numbers["weights"].tolist(), strict=True))
        return {name: blended(of(few, name), generic, weights[name])[name] for name in few.energy}


def of(text: TextEnergy, group: str) -> TextEnergy:
    """Return what is known of one group."""
    return replace(text, energy={group: text.energy[group]})


def _weight_of(group: str, known: KnownTexts) -> float:
    def estimate(weight: float, text: KnownText, few: TextEnergy) -> Mapping[str, Tensor]:
        return blended(of(few, group), known.generic.energy, weight)

    return best_setting(WEIGHTS, estimate, known)
