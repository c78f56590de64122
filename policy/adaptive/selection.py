"""From what a text makes the channels carry to the channels that it is written with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prunepolicy.policy.adaptive.energy_watch import SeenEnergy
from prunepolicy.policy.adaptive.narrow_ffn import Units, dense_groups
from prunepolicy.policy.budgeting import spend, unscored
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.text_energy import TextEnergy
from prunepolicy.pruning.units import UnitGraph

Chooser = Callable[[TextEnergy], Mapping[str, Tensor]]
"""From the statistic of a text to one score per unit of each FFN group, higher means keep."""

Masks = Literal["batch", "row"]


@dataclass(frozen=True)
class ChannelChoice:
    """The channels that a batch is written with.

    Attributes:
        masks: FFN group name to which units stay, bool (masks, units): one for the batch or one per row.
    """

    masks: Mapping[str, Tensor]

    @property
    def rows(self) -> int:
        """How many masks there are: 1 for the batch, or one per row."""
        return max(map(len, self.masks.values()), default=1)

    @property
    def units(self) -> Units:
        """The sorted ids of the units that any row keeps."""
        return {name: mask.any(0).nonzero().flatten() for name, mask in self.masks.items()}

    def gates(self, units: Units) -> dict[str, Tensor]:
        """Return which of `units` each row keeps, 0 or 1, (rows, units); nothing where rows share a mask."""
        if self.rows == 1:
            return {}
        return {name: mask[:, units[name]].float() for name, mask in self.masks.items()}


class Selection:
    """Keeps the best channels of each layer, as many as the budget allows with equal widths.

    Args:
        graph: of a network without experts.
        chooser: scores the channels.
        norms: FFN group name to the norms of the down projection's columns, (units,).
        keep: share of the channels.
        masks: `batch` for one mask for all rows of a batch, `row` for one each.

    Raises:
        UsageError: for a keep outside (0, 1].
        BudgetError: when no equal widths are within it.
    """

    def __init__(
        self,
        graph: UnitGraph,
        chooser: Chooser,
        norms: Mapping[str, Tensor],
        keep: float,
        masks: Masks = "batch",
    ) -> None:
        self.chooser, self.norms, self.masks = chooser, norms, masks
        self.widths = equal_widths(graph, keep)

    @property
    def is_whole(self) -> bool:
        """Whether every channel stays, whatever the text."""
        return not self.widths

    def choose(self, seen: SeenEnergy) -> ChannelChoice:
        """Return the choice for a batch that has read what was seen."""
        scores = [self.chooser(text) for text in self._texts(seen)]
        return ChannelChoice({
            name: torch.stack([best(score[name], width) for score in scores])
            for name, width in self.widths.items()
        })  # fmt: skip

    def share(self, choice: ChannelChoice, seen: SeenEnergy) -> float:
        """Return the kept channels' share of what all add to the layers' outputs, mean over layers and rows.

        A channel adds the root of its energy times its outgoing norm.
        """
        texts, shares = self._texts(seen), []
        for name, mask in choice.masks.items():
            added = torch.stack([text.energy[name].sqrt() * self.norms[name] for text in texts])
            shares.append((added * mask).sum(1) / added.sum(1))
        return float(torch.stack(shares).mean())

    def tokens(self, seen: SeenEnergy) -> int:
        """Return how many tokens a choice would stand on; for one mask per row, the fewest of any row."""
        return min(text.tokens for text in self._texts(seen))

    def _texts(self, seen: SeenEnergy) -> list[TextEnergy]:
        return [seen.pooled()] if self.masks == "batch" else seen.rows()


def equal_widths(graph: UnitGraph, keep: float) -> dict[str, int]:
    """Return how many channels of each layer stay, with the widest alignment that meets `keep` within 1 %.

    Where none does, as many stay as equal widths allow.
    """
    budget = Budget(keep, "ffn")
    task = unscored(graph, dense_groups(graph), budget, None, comparable=False)
    return {name: len(units) for name, units in spend(task).items()}


def best(scores: Tensor, count: int) -> Tensor:
    """Return a mask of the `count` best units, bool (units,); ties go to the lower id."""
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[scores.argsort(descending=True, stable=True)[:count]] = True
    return mask
