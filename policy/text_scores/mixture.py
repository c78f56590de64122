"""A mean of what is known of all domains, the more of each the more the text is like it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunepolicy.policy.text_scores.agreement import best_setting
from prunepolicy.policy.text_scores.bank import bank_of, distances
from prunepolicy.policy.text_scores.registry import KnownText, KnownTexts, TextScorer, apart, text_scorers
from prunepolicy.pruning.statistics.text_energy import TextEnergy

TEMPERATURES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@text_scorers.register
class TextMixture(TextScorer):
    """Weights domains by a softmax of their distances."""

    def fit(self, known: KnownTexts) -> None:
        """Remember the domains, and choose the softmax's temperature as if each text's own were unknown."""
        bank, labels = bank_of(known), list(known.domains)

        def estimate(temperature: float, text: KnownText, few: TextEnergy) -> Mapping[str, Tensor]:
            others = [row for row, label in enumerate(labels) if label != text.domain]
            return _mixed(bank[others or [0]], temperature, few)

        temperature = best_setting(TEMPERATURES, estimate, known)
        self.numbers = {"bank": bank, "temperature": torch.tensor([temperature])}

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the weighted mean of the domains' energies."""
        return _mixed(self.numbers["bank"], float(self.numbers["temperature"]), few)


def _mixed(bank: Tensor, temperature: float, few: TextEnergy) -> dict[str, Tensor]:
    weights = (-distances(bank, few) / temperature).softmax(0)
    return apart(weights @ bank.exp(), few.energy)
