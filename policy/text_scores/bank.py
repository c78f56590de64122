"""The domains that scorers know, and which of them a text is like."""

from __future__ import annotations

import torch
from torch import Tensor

from prunepolicy.policy.text_scores.prior import logs
from prunepolicy.policy.text_scores.registry import KnownTexts
from prunepolicy.pruning.statistics.text_energy import TextEnergy


def bank_of(known: KnownTexts) -> Tensor:
    """Return the log-energies of every training domain, shape (domains, units)."""
    return torch.stack([logs(text) for text in known.domains.values()])


def distances(bank: Tensor, few: TextEnergy) -> Tensor:
    """Return the mean squared difference between a text's log-energies and each domain's, shape (domains,).

    The text's overall level is left out: few tokens have less of it.
    """
    differences = bank - logs(few)
    return differences.var(1, correction=0)
