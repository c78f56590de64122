"""Ridge regression of a projection's columns, with the ridge that serves held-out samples best."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Candidates for lambda, in units of the mean diagonal of the second moments."""


@dataclass(frozen=True)
class Moments:
    """Of what columns read, x, and of what their output lacks, r, over the same samples.

    Attributes:
        read: x x^T, shape (columns, columns).
        missing: r x^T, shape (outputs, columns).
    """

    read: Tensor
    missing: Tensor


def refit(columns: Tensor, fitted: Moments, held_out: Moments) -> Tensor:
    """Return the columns, changed so that they write what was missing, too.

    The change is the minimiser of the squared error plus lambda times its own square,
    `missing (read + lambda I)^-1`. A weak ridge over-fits, so lambda is chosen on samples that were not
    fitted, and columns that no change serves there stay as they are.

    Args:
        columns: (outputs, columns).
    """
    read, missing = fitted.read.double(), fitted.missing.double()
    typical = read.diagonal().mean()
    best, lowest = columns, 0.0
    for share in RIDGES:
        ridged = read.clone()
        ridged.diagonal().add_(share * typical)
        # Faster than one eigendecomposition for all, most of all where other processes share the cores.
        factor, failed = torch.linalg.cholesky_ex(ridged)
        if failed:  # Nothing was read, so there is nothing to fit.
            break
        change = torch.cholesky_solve(missing.T, factor).T.float()
        # |r - D x|^2 - |r|^2 = tr(D (x x^T) D^T) - 2 tr(D (r x^T)^T): moments of held-out samples suffice.
        gained = float((change * (change @ held_out.read - 2 * held_out.missing)).sum())
        if gained < lowest:
            best, lowest = columns + change, gained
    return best
