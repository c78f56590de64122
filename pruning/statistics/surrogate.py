"""Predicted rise of the loss when units go: a quadratic form of per-sample gate gradients.

With r = 1 for units that go, G the gate gradients (samples x units) and N samples, the Gauss-Newton
(for text the model wrote itself: Fisher) approximation is |G r|^2 / 2N. Its diagonal is the criterion
`fisher`; what lies beside it says which units make up for each other, so negative entries stay.
Evaluating a choice costs one matrix-vector product, moving one unit costs N multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import Keep, UnitGraph, UnitGroup

USUAL_SHRINKAGE = 0.8
"""With fewer samples than units the whole form can be driven to nothing without sparing the network. On two
small language models (`benchmarks/measure/surrogate.py`), plans that a search finds with this much end
lowest of 0, 0.5, 0.8, 0.9 and 1, at 0.76 of the Fisher ranking's rise on average. Perturbed plans, which
exploit nothing, are ordered as well by 0.5."""


@dataclass(frozen=True)
class Surrogate:
    """A quadratic prediction of how much the loss rises, in nats per sample.

    Attributes:
        graph: the network.
        groups: the groups whose units may go.
        gradients: G transposed, shape (units, samples), groups one after the other.
        first_order: adds the term -mean(G) r. Its expectation is zero for text the model wrote itself.
        shrinkage: share of the off-diagonal entries that is taken away. Few samples see more
            cancellation between many units than there is; 0 believes all of it, 1 is `fisher`.
    """

    graph: UnitGraph
    groups: tuple[UnitGroup, ...]
    gradients: Tensor
    first_order: bool = False
    shrinkage: float = 0.0

    @classmethod
    def of(
        cls,
        graph: UnitGraph,
        groups: Sequence[UnitGroup],
        stats: Stats,
        first_order: bool = False,
        shrinkage: float = 0.0,
    ) -> Surrogate:
        """Build the surrogate from the statistic `gradients`.

        Raises:
            PrunePolicyError: when gradients are missing or no numbers, or the shrinkage is no share.
        """
        if not 0 <= shrinkage <= 1:
            raise PrunePolicyError(f"The shrinkage is a share between 0 and 1; got {shrinkage:g}.")
        rows = torch.cat([stats.get("gradients", group.name).float().T for group in groups]).contiguous()
        if not torch.isfinite(rows).all():
            raise PrunePolicyError("The gate gradients hold NaN or infinity; measure them again in float32.")
        return cls(graph, tuple(groups), rows, first_order, shrinkage)

    @property
    def samples(self) -> int:
        """Number of samples whose gradients it holds."""
        return self.gradients.shape[1]

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Where the units of every group lie among all units."""
        ends = accumulate(group.size for group in self.groups)
        return {g.name: slice(end - g.size, end) for g, end in zip(self.groups, ends, strict=True)}

    def removed(self, keep: Keep) -> Tensor:
        """Return which units go, bool (units,); a layer that goes is counted once, not with its units."""
        staying = {g.name for g in Plan(keep, Budget(1.0), "").staying(self.graph, self.groups)}
        masks = []
        for group in self.groups:
            mask = torch.zeros(group.size, dtype=torch.bool)
            if group.name in staying and group.name in keep:
                mask[:] = True
                mask[list(keep[group.name])] = False
            masks.append(mask)
        return torch.cat(masks)

    def rise(self, keep: Keep) -> float:
        """Return the predicted rise of the loss when only `keep` stays."""
        return Removal(self, self.removed(keep)).rise

    @cached_property
    def squares(self) -> Tensor:
        """Half the diagonal of the quadratic form, shape (units,)."""
        return self.gradients.square().sum(1) / (2 * self.samples)

    @cached_property
    def own(self) -> Tensor:
        """What every unit's going costs on its own, shape (units,)."""
        return self.squares - self.gradients.mean(1) if self.first_order else self.squares


class Removal:
    """A choice of removed units that can be changed unit by unit.

    Attributes:
        mask: the units that are gone, bool (units,).
    """

    def __init__(self, surrogate: Surrogate, mask: Tensor) -> None:
        self.surrogate = surrogate
        self.mask = mask.clone()
        self._response = (mask.float() @ surrogate.gradients).double()

    @property
    def rise(self) -> float:
        """The predicted rise of the loss."""
        # rise(r) = -mean(G) r + (diag + (1 - s) off-diagonal) of r^T F r / 2, with F = G^T G / N: the second-
        # order expansion of Optimal Brain Damage and Surgeon (LeCun et al., 1990; Hassibi and Stork, 1993)
        # at the gates, with the empirical Fisher for the Hessian (Theis et al., 2018; Kwon et al., 2022).
        # With N < units, F is shrunk towards its diagonal (Schäfer and Strimmer, 2005, target D).
        surrogate, gone = self.surrogate, self.mask.float()
        paired = self._response.square().sum() / (2 * surrogate.samples) - gone @ surrogate.squares
        return float(gone @ surrogate.own + (1 - surrogate.shrinkage) * paired)

    def marginal(self, units: slice | Tensor = slice(None)) -> Tensor:
        """Return by how much the rise changes when each of `units`, alone, goes or comes back."""
        # With c_u = (1 - s) G_u . (G r) / N: adding u to r costs own_u + c_u; taking it out again costs
        # 2 (1 - s) squares_u - own_u - c_u, since c_u then holds G_u . G_u / N = 2 squares_u of its own.
        surrogate = self.surrogate
        share, own = 1 - surrogate.shrinkage, surrogate.own[units]
        coupled = surrogate.gradients[units] @ self._response.float() * (share / surrogate.samples)
        return torch.where(
            self.mask[units], 2 * share * surrogate.squares[units] - coupled - own, coupled + own
        )

    def flip(self, units: Tensor) -> None:
        """Take `units` away where they are there, and bring them back where they are gone."""
        signs = torch.where(self.mask[units], -1.0, 1.0).double()
        self._response += signs @ self.surrogate.gradients[units].double()
        self.mask[units] = ~self.mask[units]


@dataclass(frozen=True)
class Correlation:
    """How well two measurements agree about the order of the same plans.

    Attributes:
        tau: Kendall's tau-b; 1 for the same order, -1 for the opposite one.
        p_value: chance of so strong an agreement, or disagreement, between unrelated orders (two-sided).
        pairs: number of plans compared.
    """

    tau: float
    p_value: float
    pairs: int


def rank_correlation(
    predicted: Sequence[float], measured: Sequence[float], within: Sequence[float] | None = None
) -> Correlation:
    """Return Kendall's tau-b with the p-value of its normal approximation under ties.

    Source: Kendall, "Rank Correlation Methods", chapters 3 and 4.

    Args:
        within: one number per plan, such as its size; only plans with equal numbers are compared.

    Raises:
        PrunePolicyError: for fewer than three plans to compare, or when one side gives all of them one
            value.
    """
    first, second = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    count = len(first)
    strata = np.zeros(count) if within is None else np.asarray(within, np.float64)
    members = [strata == stratum for stratum in np.unique(strata)]
    fewest = min((int(member.sum()) for member in members), default=0)
    if fewest < 3 or len(second) != count or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise PrunePolicyError("A rank correlation needs three or more finite pairs.")
    parts = np.array([_concordance(first[member], second[member]) for member in members])
    concordance, first_untied, second_untied, variance = parts.sum(0).tolist()
    if not first_untied or not second_untied:
        raise PrunePolicyError("All plans have the same value, so that they have no order to compare.")
    tau = concordance / math.sqrt(first_untied * second_untied)
    return Correlation(tau, math.erfc(abs(concordance) / math.sqrt(2 * variance)), count)


def _concordance(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, ...]:
    """Return concordant minus discordant pairs, the untied pairs of both sides, and the variance."""
    upper = np.triu_indices(len(first), 1)
    signs = [np.sign(values[:, None] - values[None, :])[upper] for values in (first, second)]
    untied = [float(np.abs(sign).sum()) for sign in signs]
    variance = _concordance_variance(_tie_sizes(first), _tie_sizes(second), len(first))
    return float((signs[0] * signs[1]).sum()), *untied, variance


def _tie_sizes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.unique(values, return_counts=True)[1].astype(np.float64)


def _concordance_variance(t: NDArray[np.float64], u: NDArray[np.float64], n: int) -> float:
    """Return the variance of concordant minus discordant pairs; t and u are sizes of ties."""
    whole = n * (n - 1) * (2 * n + 5)
    less = sum(float((ties * (ties - 1) * (2 * ties + 5)).sum()) for ties in (t, u))
    pairs = [float((ties * (ties - 1)).sum()) for ties in (t, u)]
    triples = [float((ties * (ties - 1) * (ties - 2)).sum()) for ties in (t, u)]
    joint = pairs[0] * pairs[1] / (2 * n * (n - 1)) + triples[0] * triples[1] / (9 * n * (n - 1) * (n - 2))
    return (whole - less) / 18 + joint
