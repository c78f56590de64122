"""How well a choice made on some tokens of a text serves its other tokens; what scorers tune by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from torch import Tensor

from prunepolicy.policy.text_scores.registry import Energies, KnownText, KnownTexts
from prunepolicy.pruning.statistics.text_energy import TextEnergy

KEEPS = (0.7, 0.5)
"""Shares of every group that a choice is judged at."""
TUNED_ON = 48
"""Texts on which a setting is tuned, or up to twice as many."""
Setting = TypeVar("Setting")


def lost_energy(estimated: Energies, seen: TextEnergy, norms: Energies) -> float:
    """Return how much of what channels write goes with those that the estimate gives up, 1 for the best.

    Per group, what the text's own tokens put into the lost channels' outputs, as a multiple of the least
    that any choice of so many channels loses; the mean over groups and `KEEPS`.
    """
    ratios = [
        float(_lost(energy * norms[name].square(), seen.energy[name] * norms[name].square(), keep))
        for name, energy in estimated.items()
        for keep in KEEPS
    ]
    return sum(ratios) / len(ratios)


def _lost(estimated: Tensor, written: Tensor, keep: float) -> Tensor:
    gone = len(written) - round(keep * len(written))
    # Relative to the oracle of this text: texts whose energy is spread out lose more whatever is chosen.
    least = written.topk(gone, largest=False).values.sum()
    return written[estimated.topk(gone, largest=False).indices].sum() / least


def best_setting(
    settings: Iterable[Setting],
    estimate: Callable[[Setting, KnownText, TextEnergy], Energies],
    known: KnownTexts,
) -> Setting:
    """Return the setting whose estimates lose the least on the tokens of known texts that weren't shown."""

    def lost(setting: Setting) -> float:
        return sum(
            lost_energy(estimate(setting, text, few), text.rest, known.norms)
            for text in tuned_on(known)
            for few in text.shown
        )

    return min(settings, key=lost)


def tuned_on(known: KnownTexts) -> Sequence[KnownText]:
    """Return evenly spaced texts: a few dozen tell one number."""
    return known.texts[:: max(1, len(known.texts) // TUNED_ON)]


def folds(labels: Sequence[int], count: int = 4) -> list[set[int]]:
    """Return domains in `count` parts, or as many as there are, each to be left out in turn."""
    domains = sorted(set(labels))
    return [set(domains[part::count]) for part in range(min(count, len(domains)))]
