"""Kinds of text, found by what they make the channels carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ROUNDS = 50
"""Of k-means; it has settled long before."""


def domains_of(log_energies: Tensor, count: int, directions: int = 8, seed: int = 0) -> list[int]:
    """Return a label per text: k-means on the principal directions of centred log-energies.

    Source of the start: Arthur and Vassilvitskii, "k-means++", section 2.2.

    Args:
        log_energies: logarithms of the channels' mean squares, shape (texts, units).
        count: of domains; where a domain loses all its texts there are fewer.
        directions: in which texts are compared.
    """
    centred = log_energies - log_energies.mean(0)
    points = centred @ principal(centred, directions).T
    generator = torch.Generator().manual_seed(seed)
    centres = _first_centres(points, min(count, len(points)), generator)
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(1)
        centres = torch.stack(
            [points[nearest == n].mean(0) if (nearest == n).any() else c for n, c in enumerate(centres)]
        )
    return nearest.tolist()


def principal(centred: Tensor, count: int) -> Tensor:
    """Return the first principal directions of centred rows, shape (directions, columns), strongest first.

    There are far more columns than rows, so they come from the rows' products with each other.
    """
    strengths, shares = torch.linalg.eigh(centred @ centred.T)
    kept = strengths.flip(0)[:count] > strengths[-1] * 1e-6
    return nn.functional.normalize(shares.flip(1)[:, :count][:, kept].T @ centred, dim=1)


def _first_centres(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw centres among the points, far ones rather than near ones."""
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    while len(chosen) < count:
        squares = torch.cdist(points, points[chosen]).amin(1).square() + 1e-12
        chosen.append(int(torch.multinomial(squares, 1, generator=generator)))
    return points[chosen]


@dataclass(frozen=True)
class Parts:
    """Domains apart from each other.

    Attributes:
        train: labels of those that are learned from.
        validation: of those that choose among what was learned.
        held_out: of those that only evaluate.
    """

    train: frozenset[int]
    validation: frozenset[int]
    held_out: frozenset[int]


def parts_of(labels: Sequence[int], validation: float, held_out: float, seed: int = 0) -> Parts:
    """Draw which domains choose and which evaluate: shares of all domains, at least one each."""
    domains = sorted(set(labels))
    generator = torch.Generator().manual_seed(seed)
    drawn = [domains[place] for place in torch.randperm(len(domains), generator=generator).tolist()]
    for_choosing, for_evaluating = (max(1, round(share * len(drawn))) for share in (validation, held_out))
    end = for_evaluating + for_choosing
    parts = drawn[end:], drawn[for_evaluating:end], drawn[:for_evaluating]
    return Parts(*map(frozenset, parts))
