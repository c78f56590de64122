"""The table of rollouts: what came of a batch of answers, one row each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunepolicy.pruning.errors import PrunePolicyError

Rewards = NDArray[np.float64]
"""One number per rollout; higher is better."""
Mask = NDArray[np.bool_]


class Mode(IntEnum):
    """How a prompt was met; thinking within a budget is `THINK` with a finite `budget`."""

    ANSWER = 0
    THINK = 1
    ABSTAIN = 2


_TYPES: dict[str, type] = {
    "group": np.int64,
    "mode": np.int64,
    "correct": np.bool_,
    "length": np.float64,
    "well_formed": np.bool_,
    "degenerate": np.bool_,
    "cut_off": np.bool_,
    "budget": np.float64,
    "reference": np.float64,
    "features": np.float64,
}
_OTHERWISE: dict[str, Any] = {
    "well_formed": True,
    "degenerate": False,
    "cut_off": False,
    "budget": np.inf,
    "reference": 0.0,
}


@dataclass(frozen=True)
class Rollouts:
    """A batch of answers, one array per column; `Rollouts.of` makes one from any sequences.

    Attributes:
        group: which prompt; equal numbers are answers to the same prompt.
        mode: a `Mode`.
        correct: whether a verifier accepted the answer; never true for what isn't well formed.
        length: tokens of the answer.
        well_formed: whether an answer could be read at all.
        degenerate: whether the text repeats itself endlessly.
        cut_off: whether the limit of tokens ended it.
        budget: tokens that the answer was allowed or asked to have; infinite for no limit.
        reference: accuracy on this prompt of a reference model that thinks, where a term reads it.
        features: what is known of the prompt before deciding, (rollouts, features).

    Raises:
        PrunePolicyError: for columns of unequal length, unknown modes, negative lengths, numbers that
            aren't finite, or answers that are correct though nothing could be read.
    """

    group: NDArray[np.int64]
    mode: NDArray[np.int64]
    correct: Mask
    length: NDArray[np.float64]
    well_formed: Mask
    degenerate: Mask
    cut_off: Mask
    budget: NDArray[np.float64]
    reference: NDArray[np.float64]
    features: NDArray[np.float64]

    @classmethod
    def of(
        cls, group: ArrayLike, mode: ArrayLike, correct: ArrayLike, length: ArrayLike, **more: ArrayLike
    ) -> Self:
        """Return the table; columns not among `more` say well formed, not degenerate, and no budget."""
        group = np.asarray(group, np.int64)
        given = {"group": group, "mode": mode, "correct": correct, "length": length, **more}
        if unknown := set(given) - set(_TYPES):
            raise PrunePolicyError(
                f"Rollouts have no column {sorted(unknown)[0]!r}, only {', '.join(_TYPES)}."
            )
        otherwise = {name: np.full(len(group), value) for name, value in _OTHERWISE.items()}
        columns = {**otherwise, "features": np.zeros((len(group), 0)), **given}
        return cls(**{name: np.asarray(column, _TYPES[name]) for name, column in columns.items()})

    def __post_init__(self) -> None:
        for column in fields(self):
            shape = getattr(self, column.name).shape
            if len(shape) != 1 + (column.name == "features") or shape[0] != len(self):
                raise PrunePolicyError(f"The column {column.name} of {len(self)} rollouts has shape {shape}.")
        if ((self.mode < 0) | (self.mode >= len(Mode))).any():
            raise PrunePolicyError(f"Modes are numbers below {len(Mode)}; see `Mode`.")
        known = (self.length, self.reference, self.features)
        if not all(np.isfinite(values).all() for values in known) or (self.length < 0).any():
            raise PrunePolicyError("Lengths, references and features must be finite, lengths not negative.")
        if not (self.budget > 0).all():
            raise PrunePolicyError("A budget is a positive number of tokens, or infinite for none.")
        if (self.correct & ~self.well_formed).any():
            raise PrunePolicyError("A rollout is called correct though its answer couldn't be read.")

    def __len__(self) -> int:
        return len(self.group)

    @property
    def thinks(self) -> Mask:
        """Which rollouts thought."""
        return np.equal(self.mode, Mode.THINK)

    @property
    def answers(self) -> Mask:
        """Which rollouts answered at once."""
        return np.equal(self.mode, Mode.ANSWER)

    @property
    def unfinished(self) -> Mask:
        """Which rollouts thought until the limit: nobody knows what they would have answered."""
        return self.thinks & self.cut_off & ~self.well_formed

    @property
    def abstains(self) -> Mask:
        """Which rollouts declined to answer."""
        return np.equal(self.mode, Mode.ABSTAIN)

    def where(self, rows: Any) -> Self:
        """Return the rows that a mask or indices choose."""
        return type(self)(**{name: getattr(self, name)[rows] for name in _TYPES})
