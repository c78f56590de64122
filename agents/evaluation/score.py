"""One measured number about one model."""

from __future__ import annotations

from dataclasses import dataclass


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
