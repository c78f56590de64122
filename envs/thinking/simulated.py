"""A simulated model: accuracy and length as functions of difficulty, made up or fitted to a real one."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.source import ABSTAINING, Array, Choice, Prompts, PromptSource
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Calibration:
    """A model as a table over difficulty; between its rows everything is interpolated.

    Attributes:
        difficulty: rising, (rows,).
        think_accuracy: share of correct answers after thinking; answer_accuracy: at once.
        think_tokens: median tokens; answer_tokens: at once. Tokens are log-normal.
        think_spread: deviation of the logarithm of tokens; answer_spread: at once.
    """

    difficulty: Array
    think_accuracy: Array
    answer_accuracy: Array
    think_tokens: Array
    answer_tokens: Array
    think_spread: Array
    answer_spread: Array

    def __post_init__(self) -> None:
        columns = [getattr(self, column.name) for column in fields(self)]
        if {column.shape for column in columns} != {(len(self.difficulty),)} or not len(self.difficulty):
            raise PrunePolicyError("All columns of a calibration must be equally long, and not empty.")
        if not all(np.isfinite(column).all() for column in columns) or (np.diff(self.difficulty) <= 0).any():
            raise PrunePolicyError("A calibration must be finite, and its difficulty rise from row to row.")

    @classmethod
    def invented(cls) -> Self:
        """Return a model that thinks well and long: at once it answers what is easy alone."""
        d = np.linspace(0, 1, 21)
        return cls(
            difficulty=d,
            think_accuracy=0.97 - 0.35 * d**2,
            answer_accuracy=0.95 / (1 + np.exp(12 * (d - 0.45))),
            think_tokens=400 * np.exp(2.0 * d),
            answer_tokens=60 * np.exp(0.8 * d),
            think_spread=np.full_like(d, 0.5),
            answer_spread=np.full_like(d, 0.3),
        )

    @classmethod
    def of(cls, rollouts: Rollouts, difficulty: ArrayLike, bins: int = 10) -> Self:
        """Return the table that fits rollouts of a real model, one difficulty each, in bins of equal size.

        Raises:
            PrunePolicyError: when a bin lacks one of the modes.
        """
        difficulty = np.asarray(difficulty, np.float64)
        order = np.argsort(difficulty, kind="stable")
        levels = np.unique(np.quantile(difficulty[order], np.linspace(0, 1, bins + 1)))
        places = np.clip(np.searchsorted(levels, difficulty, side="right") - 1, 0, max(0, len(levels) - 2))
        parts = [places == place for place in np.unique(places)]
        return cls(*np.array([_fitted(rollouts.where(part), difficulty[part]) for part in parts]).T)

    def at(self, column: str, difficulty: Array) -> Array:
        """Return a column at other difficulties; beyond the table, its end."""
        values: Array = np.interp(difficulty, self.difficulty, getattr(self, column))
        return values


def _fitted(rollouts: Rollouts, difficulty: Array) -> list[float]:
    """Return one row of a calibration."""
    parts = [rollouts.where(rollouts.mode == mode) for mode in (Mode.THINK, Mode.ANSWER)]
    if not all(map(len, parts)):
        place = f"near difficulty {difficulty.mean():.3g}"
        raise PrunePolicyError(f"A mode has no rollout {place}; roll out both modes, or use fewer bins.")
    logs = [np.log(np.maximum(part.length, 1)) for part in parts]
    accuracy = [float(part.correct.mean()) for part in parts]
    tokens = [float(np.exp(log.mean())) for log in logs]
    return [float(difficulty.mean()), *accuracy, *tokens, *(float(log.std()) for log in logs)]


class SimulatedSource(PromptSource):
    """Prompts of all difficulties of a calibration, met by the model that it describes.

    Args:
        calibration: the model; an invented one when None.
        prompts: how many.
        blur: deviation of what is seen of the difficulty, as a share of its range.
        hidden: whether nothing of the difficulty is seen at all.
        seed: of difficulties and what is seen of them.
    """

    def __init__(
        self,
        calibration: Calibration | None = None,
        prompts: int = 1024,
        blur: float = 0.0,
        hidden: bool = False,
        seed: int = 0,
    ) -> None:
        if prompts < 1:
            raise UsageError(f"A source has at least one prompt; got {prompts}.")
        self.calibration = calibration or Calibration.invented()
        generator = np.random.default_rng(seed)
        low, high = self.calibration.difficulty[[0, -1]]
        self.difficulty = generator.uniform(low, high, prompts) if high > low else np.full(prompts, low)
        level = (self.difficulty - low) / max(high - low, 1e-12)
        seen = level + blur * generator.normal(size=prompts)
        self.features = np.zeros((prompts, 1)) if hidden else seen[:, None]
        # Rows of tables: answering at once, thinking.
        names = ("answer", "think")
        self._accuracy, self._log_tokens, self._spread = (
            np.stack([self.calibration.at(f"{name}_{column}", self.difficulty) for name in names])
            for column in ("accuracy", "tokens", "spread")
        )
        self._log_tokens = np.log(self._log_tokens)

    def draw(
        self, prompts: Prompts, thinks: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[NDArray[np.bool_], Array]:
        """Return whether one answer to each of `prompts` is correct, and its tokens."""
        row = thinks.astype(np.int64)
        correct = generator.random(len(prompts)) < self._accuracy[row, prompts]
        noise = generator.standard_normal(len(prompts))
        tokens = np.exp(self._log_tokens[row, prompts] + self._spread[row, prompts] * noise)
        return correct, np.maximum(1.0, np.rint(tokens))

    def expected(self, choice: Choice) -> tuple[Array, Array]:
        """Return accuracy and mean tokens of every prompt, those of the continuous distribution."""
        if choice.mode is Mode.ABSTAIN:
            return np.zeros(len(self)), np.full(len(self), ABSTAINING)
        row = int(choice.mode is Mode.THINK)
        accuracy, middle = self._accuracy[row], self._log_tokens[row]
        spread = np.maximum(self._spread[row], 1e-9)
        mean: Array = np.exp(middle + spread**2 / 2)
        if choice.budget == math.inf:
            return accuracy, mean
        finished = _below((math.log(choice.budget) - middle) / spread)
        mean = mean * _below((math.log(choice.budget) - middle) / spread - spread)
        return accuracy * finished, mean + choice.budget * (1 - finished)


def _below(values: Array) -> Array:
    """Return the standard normal distribution function."""
    below: Array = (1 + _erf(values / math.sqrt(2))) / 2
    return below
