"""What a model itself goes on with after places in a text: more of the kind where the text has no more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunepolicy.pruning.statistics.text_energy import TextEnergy, energies_along
from prunepolicy.pruning.units import UnitGraph

PLACES, BEFORE, LENGTH = 16, 64, 64
"""Places that the model goes on after, tokens of the text that it reads before each, tokens that follow."""
TO_WRITE = PLACES * LENGTH


def lead_ins(tokens: Tensor, start: int) -> Tensor:
    """Return what the model goes on after: evenly spaced pieces of a text, shape (places, tokens).

    Args:
        tokens: shape (length,).
        start: token with which every piece begins.
    """
    before = min(BEFORE, len(tokens))
    ends = torch.linspace(before, len(tokens), PLACES).round().long().tolist()
    pieces = torch.stack([tokens[end - before : end] for end in ends])
    return torch.cat([torch.full((PLACES, 1), start), pieces], dim=1)


def energy_ahead(model: nn.Module, graph: UnitGraph, rows: Tensor) -> TextEnergy:
    """Return the statistic of what the model went on with, as read after what it had read.

    Args:
        rows: shape (places, tokens): what `lead_ins` returned, and `LENGTH` tokens after each.
    """
    read, whole = rows.shape[1] - LENGTH, rows.shape[1]
    return energies_along(model, graph, rows.to(next(model.parameters()).device), (read, whole))[1]
