"""One FFN block as PruneNet's environment sees it: rows to choose from, and what choices cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunepolicy.envs.shaping import Outcomes
from prunepolicy.envs.spectra import kept_spectra, spectrum
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.statistics.moments import output_interactions
from prunepolicy.pruning.statistics.row_features import standardised, unit_rows, weight_columns
from prunepolicy.pruning.units import Keep, UnitGroup, consumer_of


@dataclass(frozen=True)
class RowLayer:
    """A block's rows.

    Attributes:
        name: of the unit group.
        features: scale-free numbers per row, shape (rows, features).
        scored: the matrix whose rows are chosen, (rows, columns); None where no shaping reads it.
        interactions: shares of the output that pairs of rows carry, (rows, rows), as
            `output_interactions` returns them; None where no shaping reads them.
        gradients: of every sample's loss with respect to the rows' gates, (samples, rows); None where
            no shaping reads them.
    """

    name: str
    features: Tensor
    scored: Tensor | None = None
    interactions: Tensor | None = None
    gradients: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.features)

    def outcomes(self, kept: Tensor, reads: Iterable[str]) -> Outcomes:
        """Measure choices of rows, bool (choices, rows), each with the same number of rows.

        Raises:
            UsageError: when a column is unknown.
            PrunePolicyError: when it was not prepared for.
        """
        refuse_unmeasured(reads)
        return Outcomes({name: MEASURES[name](self, kept) for name in reads})

    def _dense_spectra(self, kept: Tensor) -> NDArray[np.float64]:
        return np.repeat(self._spectrum[None], len(kept), axis=0)

    @cached_property
    def _gram(self) -> Tensor:
        scored = self._prepared(self.scored, "scored matrix").double()
        return scored.T @ scored

    @cached_property
    def _spectrum(self) -> NDArray[np.float64]:
        return spectrum(self._prepared(self.scored, "scored matrix")).numpy()

    def _kept_spectra(self, kept: Tensor) -> NDArray[np.float64]:
        return kept_spectra(self._prepared(self.scored, "scored matrix"), kept, self._gram).numpy()

    def _output_errors(self, kept: Tensor) -> NDArray[np.float64]:
        interactions = self._prepared(self.interactions, "second moments")
        removed = (~kept).to(interactions.dtype)
        # r^T M r for every choice at once: the squared output that the removed rows wrote together, including
        # what they cancelled of each other.
        errors = ((removed @ interactions) * removed).sum(1)
        return errors.double().clamp(min=0).numpy()

    def _loss_rises(self, kept: Tensor) -> NDArray[np.float64]:
        gradients = self._prepared(self.gradients, "gate gradients")
        # Closing gates changes a sample's loss by the sum of their gradients in first order; half the mean
        # square is the Gauss-Newton estimate of the rise (Fisher), which has the sign that first order lacks
        # at a minimum.
        changes = (~kept).to(gradients.dtype) @ gradients.T
        return changes.double().square().mean(1).div(2).numpy()

    def _prepared(self, tensor: Tensor | None, what: str) -> Tensor:
        if tensor is None:
            raise PrunePolicyError(f"The {what} of {self.name!r} was not prepared for this shaping.")
        return tensor


MEASURES: Mapping[str, Callable[[RowLayer, Tensor], NDArray[np.float64]]] = {
    "dense_spectrum": RowLayer._dense_spectra,
    "kept_spectrum": RowLayer._kept_spectra,
    "output_error": RowLayer._output_errors,
    "loss_rise": RowLayer._loss_rises,
}
"""Every column, from a layer and choices of its rows."""


def refuse_unmeasured(reads: Iterable[str]) -> None:
    """Raise `UsageError` when `reads` names a column that no layer measures."""
    for name in reads:
        if name not in MEASURES:
            raise UsageError(f"PruneRows doesn't measure {name!r}, only {', '.join(MEASURES)}.")


def block_interactions(
    checkpoint: Checkpoint, groups: Iterable[UnitGroup], moments: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return what `RowLayer.interactions` holds, per group; `moments` are emptied, since both are large."""
    return {
        group.name: output_interactions(
            unit_rows(checkpoint, group, consumer_of(group)).T, moments.pop(group.name)
        )
        for group in groups
        if group.name in moments
    }


def predicted_rise(layers: Iterable[RowLayer], keep: Keep) -> float:
    """Return the rise of the loss that all layers together predict when only `keep` stays."""
    total = 0.0
    for layer in layers:
        kept = torch.zeros(1, layer.size, dtype=torch.bool)
        kept[0, list(keep.get(layer.name, range(layer.size)))] = True
        total += float(layer.outcomes(kept, ("loss_rise",))["loss_rise"][0])
    return total


def invented_layers(layers: int = 3, rows: int = 24, columns: int = 8, seed: int = 0) -> tuple[RowLayer, ...]:
    """Return blocks with random weights and heavy-tailed activations, to try an environment on."""
    if min(layers, rows, columns) < 1:
        raise UsageError(f"A network has layers, rows and columns; got {layers}, {rows}, {columns}.")
    generator = torch.Generator().manual_seed(seed)
    invented = []
    for index in range(layers):
        scored, read = torch.randn(2, rows, columns, generator=generator)
        strength = torch.randn(rows, generator=generator).exp()
        seen = torch.randn(4 * rows, rows, generator=generator) * strength
        features = torch.cat([weight_columns(scored, scored, read), strength[:, None]], dim=1)
        interactions = output_interactions(read.T, seen.T @ seen / len(seen))
        gradients = seen * torch.randn(rows, generator=generator)
        name = f"layers.{index}.ffn"
        invented.append(RowLayer(name, standardised(features), scored, interactions, gradients))
    return tuple(invented)
