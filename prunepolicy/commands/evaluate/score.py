"""One measured number about one model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunepolicy.pruning.measure.intervals import Interval, around, share_interval
from prunepolicy.pruning.measure.perplexity import WindowLosses


@dataclass(frozen=True)
class Score:
    """What a model reached in one metric of one task.

    Attributes:
        n: scored tokens or questions.
        stderr: standard error of `value`, where known.
    """

    task: str
    metric: str
    value: float
    n: int
    stderr: float | None = None

    def written(self) -> str:
        """Return the value with its standard error, for a table."""
        value = f"{self.value:.4g}" if self.metric == "perplexity" else f"{self.value:.3f}"
        return value if self.stderr is None else f"{value} ± {self.stderr:.3f}"

    def change_from(self, before: Score) -> str:
        """Return how this differs from `before`: perplexities as a ratio, others as a difference."""
        if self.metric == "perplexity":
            return f"{self.value / before.value:.4g}x"
        return f"{self.value - before.value:+.3f}"


@dataclass(frozen=True)
class Measured:
    """A score with what it is made of.

    Attributes:
        samples: losses by window, or 1 for every question answered right; None where only the score is known.
    """

    score: Score
    samples: WindowLosses | NDArray[np.float64] | None = None

    def change_from(self, before: Measured) -> Interval | None:
        """Return the interval of the change, of perplexities as a ratio; None where no error is known.

        It is of pairs of windows or questions; without them, of scores as if measured on different ones,
        which is wider.
        """
        first, last = before.samples, self.samples
        if isinstance(first, WindowLosses) and isinstance(last, WindowLosses):
            same = np.array_equal(first.tokens, last.tokens)  # else two tokenizers have cut the text
            return Interval(*map(math.exp, last.change_from(first))) if same else None
        if isinstance(first, np.ndarray) and isinstance(last, np.ndarray):
            return share_interval(first, last)
        if before.score.stderr is None or self.score.stderr is None:
            return None
        error = math.hypot(before.score.stderr, self.score.stderr)
        return around(self.score.value - before.score.value, error)
