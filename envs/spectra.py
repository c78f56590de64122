"""Singular values after rows are removed, from downdated Gram matrices instead of full decompositions."""

from __future__ import annotations

import torch
from torch import Tensor

WELL_CONDITIONED = 1e-7
"""Smallest over largest eigenvalue above which square roots of eigenvalues are exact to 1e-6."""


def spectrum(rows: Tensor) -> Tensor:
    """Return the singular values of (rows, columns), falling, in float64."""
    return kept_spectra(rows, torch.ones(1, len(rows), dtype=torch.bool))[0]


def kept_spectra(rows: Tensor, kept: Tensor, gram: Tensor | None = None) -> Tensor:
    """Return the singular values of what stays of a matrix, falling, in float64.

    The Gram matrix of the rows K that stay is W^T W - W_R^T W_R, with R the removed ones. Its
    eigenvalues cost 4/3 d^3 operations and need no vectors.

    Args:
        rows: (rows, columns).
        kept: choices, bool (choices, rows), each with the same number of rows.
        gram: W^T W in float64, where the caller has it.

    Returns:
        Shape (choices, min(kept rows, columns)).
    """
    wide = rows.double()
    count, columns = int(kept[0].sum()), rows.shape[1]
    if count < columns:
        chosen = _chosen(wide, kept)
        grams = chosen @ chosen.mT
    elif 2 * count < len(rows):
        chosen = _chosen(wide, kept)
        grams = chosen.mT @ chosen
    else:
        removed = _chosen(wide, ~kept)
        grams = (wide.T @ wide if gram is None else gram) - removed.mT @ removed
    values: Tensor = torch.linalg.eigvalsh(grams).flip(-1)
    singular = values.clamp(min=0).sqrt()
    for index in (values[:, -1] < WELL_CONDITIONED * values[:, 0]).nonzero().flatten().tolist():
        singular[index] = torch.linalg.svdvals(wide[kept[index]])
    return singular


def _chosen(rows: Tensor, mask: Tensor) -> Tensor:
    """Return the chosen rows of every choice, shape (choices, chosen, columns)."""
    return rows[mask.nonzero()[:, 1].reshape(len(mask), -1)]
