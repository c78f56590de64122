"""The registry of shapings: rewards of outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.registry import Registry

Rewards = NDArray[np.float64]
"""One number per row of a table of outcomes; higher is better."""


@dataclass(frozen=True)
class Outcomes:
    """What came of a batch of decisions: one row per decision, one named column per measurement.

    Attributes:
        columns: arrays of equal length; a column may have further axes (a spectrum per row).
    """

    columns: Mapping[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.columns.values()}
        if len(lengths) != 1:
            raise PrunePolicyError(f"Columns of outcomes must be equally long; got {lengths or 'no column'}.")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return a column, or raise `PrunePolicyError` that names those there are."""
        if name not in self.columns:
            raise PrunePolicyError(
                f"This environment doesn't measure {name!r}; it measures {', '.join(sorted(self.columns))}."
            )
        return self.columns[name]

    def row(self, index: int) -> dict[str, Any]:
        """Return what came of one decision: numbers, and lists where a column has further axes."""
        return {name: column[index].tolist() for name, column in self.columns.items()}


@dataclass(frozen=True)
class Shaping:
    """A reward.

    Attributes:
        name: in the registry; it is what travels between processes.
        reward: from outcomes to one number per row.
        reads: the columns it needs; environments measure nothing else.
    """

    name: str
    reward: Callable[[Outcomes], Rewards]
    reads: tuple[str, ...]

    def check(self, measured: Sequence[str], where: str) -> None:
        """Raise `UsageError` when it reads a column that isn't among those that `where` measures."""
        for name in self.reads:
            if name not in measured:
                raise UsageError(
                    f"{where} doesn't measure {name!r}, which {self.name!r} reads, only "
                    f"{', '.join(measured)}."
                )

    def __call__(self, outcomes: Outcomes) -> Rewards:
        """Return the rewards.

        Raises:
            PrunePolicyError: when one isn't finite, which would silently ruin whatever learns from it.
        """
        rewards = np.asarray(self.reward(outcomes), dtype=np.float64)
        if rewards.shape != (len(outcomes),) or not np.isfinite(rewards).all():
            raise PrunePolicyError("A reward is not finite, or isn't one number per outcome.")
        return rewards

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel by name: the decorated function isn't to be found in its module any more."""
        return _called, (self.name,)


shapings: Registry[Shaping] = Registry("shaping", "prunepolicy.envs.shaping")


def shaping(name: str, *reads: str) -> Callable[[Callable[[Outcomes], Rewards]], Shaping]:
    """Register the decorated function as the shaping `name`, which reads the columns `reads`."""

    def register(function: Callable[[Outcomes], Rewards]) -> Shaping:
        item = Shaping(name, function, reads)
        shapings.add(name, item)
        return item

    return register


ShapingName = Annotated[str, AfterValidator(lambda name: shapings[name].name)]
"""A setting that names a shaping; others are refused with the nearest name."""


def _called(name: str) -> Shaping:
    return shapings[name]
