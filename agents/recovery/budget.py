"""How long a cut network learns: seconds, tokens, epochs or steps, as a user writes them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, Self

from prunepolicy.pruning.errors import UsageError

Unit = Literal["seconds", "tokens", "epochs", "steps"]
SECONDS: Final = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
NUMBER, UNIT = r"(\d{1,12}(?:\.\d{1,6})?)\s*(k|M|G)?", r"(s|sec|min|m|h|d|tokens?|epochs?|steps?)?"
WRITTEN = re.compile(rf"{NUMBER}\s*{UNIT}", re.ASCII)
FACTORS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
MOST: Final = 10**12


@dataclass(frozen=True)
class RecoveryBudget:
    """What may be spent on learning.

    Attributes:
        amount: how many of the unit; whole, except of seconds.
    """

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `20m`, `500k tokens`, `3 epochs`, `120 steps`, or a plain number of epochs.

        Raises:
            UsageError: when it is none of these.
        """
        found = WRITTEN.fullmatch(text.strip())
        word = (found[3] or "epochs") if found else ""
        amount = float(found[1]) * FACTORS[found[2] or ""] if found else math.nan
        if found is None or (found[2] and word in SECONDS) or not amount <= MOST:
            raise UsageError(
                f"{text!r:.80} is no budget for learning; write a time such as 20m or 2h, or 500k tokens, "
                "3 epochs, 400 steps."
            )
        if word in SECONDS:
            return cls(amount * SECONDS[word], "seconds")
        if amount % 1:
            raise UsageError(f"A budget for learning has a whole number of {word}; got {text!r:.80}.")
        return cls(amount, f"{word.removesuffix('s')}s")  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        """Whether there is anything to spend."""
        return self.amount > 0

    def __str__(self) -> str:
        """Return what `parse` reads as the same budget."""
        if self.unit != "seconds":
            return f"{self.amount:.0f} {self.unit}"
        unit = next(word for word in ("h", "m", "s") if self.amount % SECONDS[word] == 0 or word == "s")
        return f"{self.amount / SECONDS[unit]:g}{unit}"
