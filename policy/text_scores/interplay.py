"""What channels write together: those that cancel each other can go, though each alone writes much."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from prunepolicy.policy.text_scores.registry import Energies, TextScorer
from prunepolicy.pruning.statistics.text_energy import TINY, TextEnergy

INDEPENDENT = 256.0
"""Tokens for which the assumption counts that channels write independently of each other."""


class Interplay(TextScorer):
    """Energies as the scorer after it estimates them, and correlations as the few tokens show them.

    Channels go one by one, each time the one with which the squared error of the block's output rises least;
    a score is the place in that order. Without products the other scorer decides alone.
    """

    reads_products: ClassVar[bool] = True

    def scores(self, few: TextEnergy, norms: Energies) -> dict[str, Tensor]:
        """Return every channel's place in the order in which channels go."""
        alone = super().scores(few, norms)
        if not few.products:
            return alone
        trust = few.tokens / (few.tokens + INDEPENDENT)
        return {
            name: removal_order(expected(sizes, few.products[name], trust)) for name, sizes in alone.items()
        }


def expected(sizes: Tensor, products: Tensor, trust: float) -> Tensor:
    """Return the inner products of what channels write, shape (units, units).

    Args:
        sizes: root mean squares of what each writes.
        products: as few tokens show them; their correlations are believed by the share `trust`.
    """
    scale = sizes / products.diagonal().clamp(min=TINY).sqrt()
    believed = trust * scale[:, None] * products * scale
    believed.diagonal().copy_(sizes.square())
    return believed


def removal_order(products: Tensor) -> Tensor:
    """Return the step at which each unit goes, shape (units,), when the cheapest always goes next.

    Removing the set r (0 or 1 each) changes the output by r^T P r in the mean square.
    """
    rise, order = products.diagonal().clone(), torch.empty(len(products))
    for step in range(len(products)):
        unit = int(rise.argmin())
        order[unit] = step
        rise += 2 * products[unit]
        rise[unit] = torch.inf
    return order
