"""Which axes of which tensors follow a number of the configuration: those are the units it counts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.derived.network import Network, network
from prunepolicy.pruning.adapters.derived.paths import number, restated

Axis = tuple[str, int]
"""A tensor's name in the checkpoint, and one of its axes."""

PROBED = 24
"""What a setting is set to that is left to a rule of its class."""


@dataclass(frozen=True)
class Movement:
    """What follows one count of units.

    Attributes:
        count: how many units the configuration states.
        axes: the lengths of the axes that follow it, each a multiple of `count`.
    """

    count: int
    axes: Mapping[Axis, int]

    def per_unit(self, axis: Axis) -> int:
        """Return how many entries of an axis belong to one unit."""
        return self.axes[axis] // self.count


def movement(config: Config, auto_class: str, path: str) -> Movement | None:
    """Return what follows the number at `path`; None where nothing does, or not in proportion."""
    stated = number(config, path)
    for tried in _others(stated):
        moved = compared(config, auto_class, {path: tried})
        if not moved:
            continue
        if stated is None:
            before, after = next(iter(moved.values()))
            stated = before * tried // after
        if all(before * tried == after * stated and before >= stated for before, after in moved.values()):
            return Movement(stated, {axis: before for axis, (before, _) in moved.items()})
    return None


def compared(
    config: Config, auto_class: str, changes: Mapping[str, Any], base: Mapping[str, Any] | None = None
) -> dict[Axis, tuple[int, int]]:
    """Return the lengths, before and after `changes`, of axes that differ; none where it can't be built.

    Args:
        base: changes that are made on both sides.
    """
    try:
        before = network(restated(config, base or {}), auto_class)
        after = network(restated(config, {**(base or {}), **changes}), auto_class)
        return dict(_differences(before, after))
    except Exception:  # The library checks as it likes what a configuration may say.
        return {}


def _differences(before: Network, after: Network) -> Iterator[tuple[Axis, tuple[int, int]]]:
    if before.stored.keys() != after.stored.keys():
        return
    for name, shape in before.stored.items():
        for axis, lengths in enumerate(zip(shape, after.stored[name], strict=True)):
            if lengths[0] != lengths[1]:
                yield (name, axis), lengths


def _others(stated: int | None) -> tuple[int, ...]:
    """Return numbers to try instead of `stated`: half of it, where that is one, and twice."""
    if stated is None:
        return (PROBED,)
    return (stated // 2, stated * 2) if stated % 2 == 0 else (stated * 2,)


def unnumbered(name: str) -> str:
    """Return a tensor's name without the numbers of its layer and expert."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "#", name)
