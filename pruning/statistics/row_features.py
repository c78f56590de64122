"""Rows of feed-forward blocks as numbers that mean the same in a model of any size.

A channel's rows are its entries in the matrices that write it (gate and up, or one alone) and in
the matrix that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import Slice, UnitGroup, consumer_of

WEIGHT_FEATURES = ("scored norm", "last written norm", "read norm", "scored leverage")
ACTIVATION_FEATURES = ("output", "rms", "max", "first_rms")
GRADIENT_FEATURES = ("mean square gradient", "absolute mean gradient")
FEATURES = {
    "weights": WEIGHT_FEATURES,
    "activations": ACTIVATION_FEATURES,
    "gradients": GRADIENT_FEATURES,
}
LARGEST = 8.0
"""Standard deviations at which a feature is cut: one massive channel must not drown the others."""
DAMPING, SMALLEST = 1e-6, 1e-30


def row_stats(checkpoint: Checkpoint, groups: Iterable[UnitGroup]) -> Stats:
    """Return the statistic `rows`, shape (units, len(WEIGHT_FEATURES)), of feed-forward groups."""
    values = {}
    for group in groups:
        first, last = scored_slice(group), _written(group)[-1]
        scored = unit_rows(checkpoint, group, first)
        written = scored if last is first else unit_rows(checkpoint, group, last)
        values[group.name] = weight_columns(scored, written, unit_rows(checkpoint, group, consumer_of(group)))
    return Stats({"rows": values})


def scored_stats(checkpoint: Checkpoint, groups: Iterable[UnitGroup]) -> Stats:
    """Return the statistic `scored`: the matrix that PruneNet scores, shape (units, inputs)."""
    return Stats({"scored": {g.name: unit_rows(checkpoint, g, scored_slice(g)) for g in groups}})


def weight_columns(scored: Tensor, written: Tensor, read: Tensor) -> Tensor:
    """Return norms and leverage of rows, one row per unit; each argument is (units, entries)."""
    norms = [matrix.norm(dim=1) for matrix in (scored, written, read)]
    return torch.stack([*norms, leverage(scored)], dim=1)


def leverage(rows: Tensor) -> Tensor:
    """Return w_i^T (W^T W)^-1 w_i for every row, in (0, 1]: how little the others can replace it.

    Removing a row shifts the log-determinant of the Gram matrix by log(1 - leverage).
    """
    gram = (rows.T @ rows).double()
    # Matrices with more columns than rows, or dead columns, have a singular Gram matrix.
    gram.diagonal().add_(DAMPING * gram.diagonal().mean() + SMALLEST)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram)).to(rows.dtype)
    return ((rows @ inverse) * rows).sum(1).clamp(0, 1)


def scored_slice(group: UnitGroup) -> Slice:
    """Return the matrix whose rows PruneNet scores: the first that writes the channels (gate, fc1)."""
    return _written(group)[0]


def unit_rows(checkpoint: Checkpoint, group: UnitGroup, part: Slice) -> Tensor:
    """Return the entries that each unit owns of one tensor, shape (units, entries), as float32."""
    weights = checkpoint.read(part.tensor).float().movedim(part.axis, 0)
    indices = torch.from_numpy(part.indices(torch.arange(group.size).numpy()))
    return weights[indices.movedim(1, 0).reshape(group.size, -1)].reshape(group.size, -1)


def row_features(stats: Stats, group: UnitGroup, names: Iterable[str]) -> Tensor:
    """Return scale-free features, shape (units, features): standardised logarithms within the group.

    Args:
        names: sets of `FEATURES` to include.
    """
    columns = torch.cat([_raw(stats, group, name) for name in names], dim=1)
    return standardised(columns)


def standardised(columns: Tensor) -> Tensor:
    """Return z-scores of the logarithms of non-negative columns, cut at `LARGEST`."""
    # Norms and energies spread over decades: their logarithms are nearly normal, and a change of the whole
    # matrix's scale shifts all of them alike, which the mean takes out.
    floor = columns.amax(0, keepdim=True) * 1e-6 + torch.finfo(torch.float32).tiny
    logs = torch.maximum(columns, floor).log()
    spread = logs.std(0, correction=0, keepdim=True)
    return ((logs - logs.mean(0, keepdim=True)) / spread.clamp(min=1e-6)).clamp(-LARGEST, LARGEST)


def _raw(stats: Stats, group: UnitGroup, name: str) -> Tensor:
    if name == "weights":
        return stats.get("rows", group.name)
    if name == "activations":
        return torch.stack([stats.get(column, group.name) for column in ACTIVATION_FEATURES], dim=1)
    gradients = stats.get("gradients", group.name)
    return torch.stack([gradients.square().mean(0), gradients.mean(0).abs()], dim=1)


def _written(group: UnitGroup) -> list[Slice]:
    return [part for part in group.slices if not part.consumer and part.tensor.endswith("weight")]
