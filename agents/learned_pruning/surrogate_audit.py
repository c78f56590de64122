"""Ask the network itself whether a surrogate puts plans into the right order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from prunepolicy.envs.prune_case import PruneCase
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.surrogate import Correlation, rank_correlation
from prunepolicy.pruning.units import Keep

LEAST_TAU = 0.3
"""Below this a surrogate says too little about plans of equal size to be learned from."""
LARGEST_P_VALUE = 0.05
SIZES = (0.9, 0.8, 0.7)
DISTORTIONS = (
    (0.0, 0.0),
    (0.25, 0.0),
    (0.5, 0.0),
    (1.0, 0.0),
    (0.0, 0.25),
    (0.0, 0.5),
    (0.5, 0.5),
    (8.0, 0.0),
)
"""Noise on the logarithms of the reference's scores: standard deviations over units and over groups.

The first plan is the reference's, the last one as good as random.
"""


@dataclass(frozen=True)
class Audit:
    """What was predicted for some plans, and what was measured.

    Attributes:
        sizes: the share that every plan keeps.
        predicted: rise of the loss as the surrogate predicts it; only its order matters.
        measured: rise of the loss of the masked network, in nats per token.
    """

    sizes: tuple[float, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @cached_property
    def across(self) -> Correlation:
        """How well the orders agree over plans of all sizes, where size alone says much."""
        return rank_correlation(self.predicted, self.measured)

    @cached_property
    def equal(self) -> Correlation:
        """How well they agree among plans of equal size, which is what a learner has to tell apart."""
        return rank_correlation(self.predicted, self.measured, self.sizes)

    @property
    def is_convincing(self) -> bool:
        """Whether the surrogate may stand in for the network."""
        return self.equal.tau >= LEAST_TAU and self.equal.p_value <= LARGEST_P_VALUE

    def __str__(self) -> str:
        """Return both correlations."""
        equal, across = self.equal, self.across
        return (
            f"tau {equal.tau:.2f} at equal size (p {equal.p_value:.1g}), {across.tau:.2f} over all sizes, "
            f"{len(self.sizes)} plans"
        )


def audit(
    case: PruneCase,
    measure: Callable[[Keep], float],
    plans: int = 24,
    seed: int = 0,
    sizes: Sequence[float] = SIZES,
    predict: Callable[[Keep], float] | None = None,
) -> Audit:
    """Compare a surrogate with what `measure` finds, on plans around the reference's.

    Args:
        plans: how many in all; every size gets at least three.
        sizes: shares that may stay.
        predict: the surrogate; that of `case` when None.
    """
    predict = predict or case.surrogate.rise
    per_size = max(3, math.ceil(plans / len(sizes)))
    rows = [
        (size, predict(keep), measure(keep))
        for size in sizes
        for keep in plans_around(case, replace(case.budget, keep=size), per_size, seed)
    ]
    columns = zip(*rows, strict=True)
    return Audit(*columns)


def plans_around(case: PruneCase, budget: Budget, count: int, seed: int) -> Iterator[Keep]:
    """Draw plans of one size: the reference's, distorted more and less.

    Where all layers keep equal widths, what would move units between layers distorts within them.
    """
    generator = torch.Generator().manual_seed(seed)
    for index in range(count):
        per_unit, per_group = DISTORTIONS[index % len(DISTORTIONS)]
        if budget.uniform:
            per_unit, per_group = per_unit + per_group, 0.0
        scores = {}
        for name, reference in case.fisher.items():
            shift = per_group * torch.randn(1, generator=generator)
            noise = shift + per_unit * torch.randn(len(reference), generator=generator)
            scores[name] = reference * noise.exp()
        yield case.spend(scores, budget)
