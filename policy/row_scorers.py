"""Networks that score rows: PruneNet's, which knows one shape, and one that knows them all."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RowScorer(nn.Module):
    """Scores every row from its own features and from the mean of all rows (DeepSets).

    Rows may come in any number and order: scores follow their rows.

    Args:
        features: numbers per row.
        hidden: width.
        bound: scores lie in (-bound, bound), so that no choice becomes certain too early.
    """

    def __init__(self, features: int, hidden: int, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.read = nn.Linear(features + len(CONTEXT), hidden)
        self.mix = nn.Linear(2 * hidden, hidden)
        self.score = nn.Linear(hidden, 1)
        # Before learning anything, every row is as good as another.
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, rows: Tensor, context: Tensor) -> Tensor:
        """Return scores, shape (rows,), for features (rows, features) and context (2,)."""
        known = torch.cat([rows, context.expand(len(rows), -1)], dim=1)
        own = torch.tanh(self.read(known))
        pooled = own.mean(0, keepdim=True).expand_as(own)
        hidden = torch.tanh(self.mix(torch.cat([own, pooled], dim=1)))
        scores: Tensor = self.bound * torch.tanh(self.score(hidden).squeeze(1) / self.bound)
        return scores


CONTEXT = ("keep ratio", "depth")


class AffineScorer(nn.Module):
    """PruneNet's published predictor: s = (W A^T + 1 b^T) rho.

    No non-linearity stands between its two factors, so that a row's score is w_i . (A^T rho) + b . rho:
    rows * columns + 2 * rows numbers express columns + 1. Locked to one shape of W.

    Source: Sengupta et al., "You Only Prune Once", ICLR 2025, and its code.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.inter = nn.Linear(columns, rows)
        self.project = nn.Parameter(torch.rand(rows))

    def forward(self, rows: Tensor, context: Tensor) -> Tensor:
        """Return scores, shape (rows,), for the scored matrix (rows, columns); context is not read."""
        scores: Tensor = self.inter(rows) @ self.project
        return scores
