"""What gradients through the network add to the scores that statistics give."""

from __future__ import annotations

import torch
from torch import Tensor

from prunepolicy.policy.text_scores.ahead import Ahead
from prunepolicy.policy.text_scores.registry import Energies, KnownTexts, apart, text_scorers
from prunepolicy.pruning.statistics.text_energy import TextEnergy


@text_scorers.register
class Offsets(Ahead):
    """The scores of `ahead`, times a factor per channel that training on texts of many kinds has found.

    Statistics take channels one by one; the factors know what channels do together.
    """

    def fit(self, known: KnownTexts) -> None:
        """Start as `ahead`; the algorithm `text_offsets` moves the factors' logarithms."""
        super().fit(known)
        self.numbers["offsets"] = torch.zeros_like(self.numbers["generic"])

    def scores(self, few: TextEnergy, norms: Energies) -> dict[str, Tensor]:
        """Return the scores, higher means keep."""
        offsets = apart(self.numbers["offsets"], few.energy)
        return {name: value * offsets[name].exp() for name, value in super().scores(few, norms).items()}
