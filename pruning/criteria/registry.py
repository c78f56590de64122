"""The registry of criteria: how much a unit matters, from statistics alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from prunepolicy.pruning.registry import Registry, file_name
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

Need = Literal["weights", "activations", "gradients", "drops", "rows", "scored", "tokens"]
Score = Callable[[UnitGraph, UnitGroup, Stats], Tensor]
Scores = dict[str, Tensor]


@dataclass(frozen=True)
class Criterion:
    """A score per unit, higher means keep.

    Attributes:
        score: from graph, group and statistics to one number per unit.
        needs: the statistics that have to be collected.
        comparable: scores estimate a rise of the loss, so that they can be compared and added
            across layers and unit kinds.
        kinds: unit kinds it can score; empty means all but tokens.
    """

    score: Score
    needs: tuple[Need, ...]
    comparable: bool = False
    kinds: tuple[str, ...] = ()

    def __call__(self, graph: UnitGraph, groups: tuple[UnitGroup, ...], stats: Stats) -> Scores:
        """Return the scores of every group in `groups`."""
        return {group.name: self.score(graph, group, stats) for group in groups}


criteria: Registry[Criterion] = Registry("criterion", "prunepolicy.pruning.criteria")


def criterion(
    *needs: Need, comparable: bool = False, kinds: tuple[str, ...] = ()
) -> Callable[[Score], Score]:
    """Register the decorated function under the name of its file."""

    def register(score: Score) -> Score:
        criteria.add(file_name(score), Criterion(score, needs, comparable, kinds))
        return score

    return register
