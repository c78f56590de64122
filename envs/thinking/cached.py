"""Cached rollouts of a real model: what it did, played again without it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.source import ABSTAINING, Array, Choice, Prompts, PromptSource
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_bytes


@dataclass(frozen=True)
class CachedSource(PromptSource):
    """For every prompt, several outcomes of thinking and several of answering at once.

    Outcomes were drawn from the model whatever a policy decides later, so means over them are unbiased
    for the value of any policy that decides by the features.

    Attributes:
        features: (prompts, features); difficulty: (prompts,).
        think_correct, think_length: outcomes of thinking, (prompts, outcomes).
        answer_correct, answer_length: outcomes of answering at once, (prompts, outcomes).
    """

    features: Array
    difficulty: Array
    think_correct: NDArray[np.bool_]
    think_length: Array
    answer_correct: NDArray[np.bool_]
    answer_length: Array

    def __post_init__(self) -> None:
        for column in fields(self):
            values, flags = getattr(self, column.name), column.name.endswith("_correct")
            if values.ndim != 1 + (column.name != "difficulty") or len(values) != len(self) or not len(self):
                raise PrunePolicyError(f"{column.name} of {len(self)} cached prompts is {values.shape}.")
            if (values.dtype == np.bool_) != flags or not np.isfinite(values).all():
                wanted = "true or false" if flags else "finite numbers"
                raise PrunePolicyError(f"{column.name} of cached prompts must hold {wanted} alone.")
        for mode in ("think", "answer"):
            correct, length = getattr(self, f"{mode}_correct"), getattr(self, f"{mode}_length")
            if correct.shape != length.shape or not correct.shape[1] or (length < 0).any():
                raise PrunePolicyError(f"Every outcome of {mode} needs a length of at least 0.")

    @classmethod
    def of(cls, rollouts: Rollouts, difficulty: ArrayLike) -> Self:
        """Return the cache of a table; groups are the prompts, in rising order.

        Args:
            difficulty: one per rollout, equal within a group.

        Raises:
            PrunePolicyError: unless every prompt has as many outcomes of either mode as the others.
        """
        difficulty = np.asarray(difficulty, np.float64)
        _, first = np.unique(rollouts.group, return_index=True)
        columns = {"features": rollouts.features[first], "difficulty": difficulty[first]}
        for mode, name in ((Mode.THINK, "think"), (Mode.ANSWER, "answer")):
            rows = np.flatnonzero(rollouts.mode == mode)
            rows = rows[np.argsort(rollouts.group[rows], kind="stable")]
            found, counts = np.unique(rollouts.group[rows], return_counts=True)
            if len(found) != len(first) or len(set(counts.tolist())) != 1:
                raise PrunePolicyError(f"Every prompt needs equally many rollouts of the mode {name}.")
            columns[f"{name}_correct"] = rollouts.correct[rows].reshape(len(first), -1)
            columns[f"{name}_length"] = rollouts.length[rows].reshape(len(first), -1)
        return cls(**columns)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            PrunePolicyError: when the file isn't such a table.
        """
        names = {column.name for column in fields(cls)}
        try:
            tensors = load(bounded.read_bytes(file, bounded.MOST_TEXT))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise PrunePolicyError(f"Can't read the rollouts in {file}: {bounded.why(error)}.") from error
        if set(tensors) != names:
            raise PrunePolicyError(f"{file} holds no cached rollouts; these have {', '.join(sorted(names))}.")
        return cls(**tensors)

    def save(self, file: Path) -> None:
        """Write a safetensors file."""
        write_bytes(file, save({c.name: np.ascontiguousarray(getattr(self, c.name)) for c in fields(self)}))

    def where(self, prompts: Any) -> Self:
        """Return the prompts that a mask or indices choose."""
        return type(self)(**{column.name: getattr(self, column.name)[prompts] for column in fields(self)})

    def draw(
        self, prompts: Prompts, thinks: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[NDArray[np.bool_], Array]:
        """Return one of the cached outcomes for each of `prompts`."""
        luck = generator.random(len(prompts))
        drawn = []
        for what in ("correct", "length"):
            think, answer = getattr(self, f"think_{what}"), getattr(self, f"answer_{what}")
            drawn.append(
                np.where(
                    thinks,
                    think[prompts, (luck * think.shape[1]).astype(np.int64)],
                    answer[prompts, (luck * answer.shape[1]).astype(np.int64)],
                )
            )
        return drawn[0], drawn[1]

    def expected(self, choice: Choice) -> tuple[Array, Array]:
        """Return the means over every prompt's cached outcomes."""
        if choice.mode is Mode.ABSTAIN:
            return np.zeros(len(self)), np.full(len(self), ABSTAINING)
        name = "think" if choice.mode is Mode.THINK else "answer"
        correct, length = getattr(self, f"{name}_correct"), getattr(self, f"{name}_length")
        accuracy: Array = (correct & (length <= choice.budget)).mean(1)
        return accuracy, np.minimum(length, choice.budget).mean(1)
