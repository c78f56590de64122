"""The text's own few tokens alone."""

from __future__ import annotations

from torch import Tensor

from prunepolicy.policy.text_scores.registry import KnownTexts, TextScorer, text_scorers
from prunepolicy.pruning.statistics.text_energy import TextEnergy


@text_scorers.register
class Plain(TextScorer):
    """Believes the few tokens."""

    def fit(self, known: KnownTexts) -> None:
        """Learn nothing."""

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the statistic as it is."""
        return dict(few.energy)
