"""A prior learned over texts, with a few directions in which texts differ."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from prunepolicy.policy.text_scores.agreement import folds, lost_energy, tuned_on
from prunepolicy.policy.text_scores.prior import EnergyMoments, Numbers, directions_of, fitted, posterior
from prunepolicy.policy.text_scores.registry import KnownTexts, TextScorer, apart, text_scorers
from prunepolicy.pruning.statistics.text_energy import TextEnergy

DIRECTIONS = (1, 2, 4, 8, 16)


@text_scorers.register
class LowRank(TextScorer):
    """The posterior mean of log-energies under a normal prior (factor analysis with measured noise)."""

    def fit(self, known: KnownTexts) -> None:
        """Measure the prior; the number of directions is the one that serves domains left out best."""
        most = min(len(known.texts) - 1, DIRECTIONS[-1])
        allowed = [number for number in DIRECTIONS if number <= most] or [1]
        losses = {number: 0.0 for number in allowed}
        for left_out in folds([text.domain for text in known.texts]):
            others = [text for text in known.texts if text.domain not in left_out]
            moments = EnergyMoments.of(others or known.texts)
            basis = directions_of(moments, allowed[-1])
            tested = replace(known, texts=[text for text in tuned_on(known) if text.domain in left_out])
            for number in allowed:
                losses[number] += _loss(fitted(moments, basis[:number]), tested)
        moments, best = EnergyMoments.of(known.texts), min(losses, key=lambda number: losses[number])
        self.numbers = fitted(moments, directions_of(moments, best))

    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the exponentials of the posterior mean."""
        return apart(posterior(self.numbers, few).exp(), few.energy)


def _loss(numbers: Numbers, tested: KnownTexts) -> float:
    """Return what the prior's choices lose on texts that it wasn't measured on."""
    return sum(
        lost_energy(apart(posterior(numbers, few).exp(), few.energy), text.rest, tested.norms)
        for text in tested.texts
        for few in text.shown
    )
