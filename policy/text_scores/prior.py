"""What texts have in common and how they differ: a normal distribution over their log-energies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunepolicy.policy.text_scores.registry import KnownText, flat
from prunepolicy.pruning.statistics.text_domains import principal
from prunepolicy.pruning.statistics.text_energy import TextEnergy

SMALLEST = 1e-12
"""Mean square below which a channel counts as silent; logarithms need one."""
Numbers = dict[str, Tensor]


@dataclass(frozen=True)
class EnergyMoments:
    """Logarithms of the mean squares of texts, and how noisy those of few tokens are.

    Attributes:
        whole: of all tokens of each text, shape (texts, units).
        tokens: that each has.
        noise: differences between shown and other tokens, each divided by the root of 1/n + 1/m, so that its
            variance is that of one token's share; shape (pairs, units).
    """

    whole: Tensor
    tokens: float
    noise: Tensor

    @classmethod
    def of(cls, texts: Sequence[KnownText]) -> EnergyMoments:
        """Read them off known texts."""
        whole = [TextEnergy.pooled([text.shown[-1], text.rest]) for text in texts]
        pairs = [(few, text.rest) for text in texts for few in text.shown]
        noise = [(logs(few) - logs(rest)) / (1 / few.tokens + 1 / rest.tokens) ** 0.5 for few, rest in pairs]
        mean_tokens = sum(text.tokens for text in whole) / len(whole)
        return cls(torch.stack([logs(text) for text in whole]), mean_tokens, torch.stack(noise))


def directions_of(moments: EnergyMoments, count: int) -> Tensor:
    """Return the principal directions of the texts' deviations from their mean."""
    return principal(moments.whole - moments.whole.mean(0), count)


def logs(text: TextEnergy) -> Tensor:
    """Return the logarithms of a text's mean squares, one group after the other."""
    return flat(text.energy).clamp(min=SMALLEST).log()


def fitted(moments: EnergyMoments, basis: Tensor) -> Numbers:
    """Return the distribution's numbers: mean, directions, and variances of signal and noise.

    Noise is measured along the directions, too, since that of channels is not independent: a few tokens have
    one topic.

    Args:
        basis: directions in which texts differ, as rows.
    """
    mean, noise = moments.whole.mean(0), moments.noise
    deviations = moments.whole - mean
    along, noise_along = (deviations @ basis.T).square().mean(0), (noise @ basis.T).square().mean(0)
    own = (deviations - deviations @ basis.T @ basis).square().mean(0)
    own_noise = (noise - noise @ basis.T @ basis).square().mean(0)
    tiny = 1e-6
    return {
        "mean": mean,
        "directions": basis,
        "signal_along": (along - noise_along / moments.tokens).clamp(min=tiny),
        "noise_along": noise_along,
        "signal": (own - own_noise / moments.tokens).clamp(min=tiny),
        "noise": own_noise,
    }


def posterior(numbers: Numbers, few: TextEnergy) -> Tensor:
    """Return the mean of a text's log-energies given few of its tokens, shape (units,).

    Along the directions and in what is left of every channel, the deviation from the mean counts for
    signal / (signal + noise / n).
    """
    deviation = logs(few) - numbers["mean"]
    basis = numbers["directions"]
    along = basis @ deviation
    left = deviation - along @ basis
    shrunk = along * _share(numbers["signal_along"], numbers["noise_along"], few.tokens)
    return numbers["mean"] + shrunk @ basis + left * _share(numbers["signal"], numbers["noise"], few.tokens)


def _share(signal: Tensor, noise: Tensor, tokens: int) -> Tensor:
    return signal / (signal + noise / tokens)
