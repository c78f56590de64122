"""Metrics of when to think: accuracy, tokens, and the quality of the decision itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunepolicy.pruning.errors import PrunePolicyError

Array = NDArray[np.float64]


class Point(NamedTuple):
    """Accuracy, as a share or in percent, and mean tokens."""

    accuracy: float
    tokens: float


class DifficultyBin(NamedTuple):
    """Prompts of similar difficulty: their range, the number of rows, and the mean of the values."""

    low: float
    high: float
    rows: int
    mean: float


def by_difficulty(values: ArrayLike, difficulty: ArrayLike, bins: int = 5) -> list[DifficultyBin]:
    """Return means of `values` (thinking or not, correctness) in bins with equally many rows, easy to hard.

    Rows of equal difficulty stay together, so that there may be fewer bins.
    """
    values, difficulty = np.asarray(values, np.float64), np.asarray(difficulty, np.float64)
    # Graded difficulties have ties at the edges: equal edges fall together rather than leave empty bins.
    edges = np.unique(np.quantile(difficulty, np.linspace(0, 1, bins + 1)))
    places = np.clip(np.searchsorted(edges, difficulty, side="right") - 1, 0, max(0, len(edges) - 2))
    found = []
    for place in np.unique(places):
        rows = places == place
        inside = difficulty[rows]
        found.append(DifficultyBin(inside.min(), inside.max(), int(rows.sum()), float(values[rows].mean())))
    return found


def e_f1(found: Point, standard: Point, no_thinking: Point) -> float:
    """Return AutoThink's efficiency F1, between 0 and 1.

    It is the harmonic mean of the accuracy gained over always thinking, as a share of what thinking
    gains over not thinking, and of the tokens saved, as a share of what not thinking saves, both within
    0 and 1. Source: AutoThink (arXiv 2505.10832); the formula is inferred from its 1.5B tables, which it
    reproduces, while the printed 7B values don't follow from it.

    Raises:
        PrunePolicyError: when thinking gains nothing, or not thinking saves nothing.
    """
    room, most = standard.accuracy - no_thinking.accuracy, standard.tokens - no_thinking.tokens
    if room <= 0 or most <= 0:
        raise PrunePolicyError("E-F1 needs thinking to gain accuracy, and not thinking to save tokens.")
    gained = min(1.0, max(0.0, (found.accuracy - standard.accuracy) / room))
    saved = min(1.0, max(0.0, (standard.tokens - found.tokens) / most))
    return 2 * gained * saved / (gained + saved) if gained + saved else 0.0


def aes(found: Point, base: Point) -> float:
    """Return the accuracy-efficiency score: tokens saved, plus 3 times accuracy gained, or less 5 times lost.

    All as shares of the base's. Source: O1-Pruner (arXiv 2501.12570).
    """
    # Losing accuracy weighs more than gaining it, so that an answer which is short and wrong never pays.
    saved = (base.tokens - found.tokens) / base.tokens
    gained = (found.accuracy - base.accuracy) / base.accuracy
    return saved + (3 if gained >= 0 else 5) * gained


def auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return how probably a positive row scores above another one, ties counting half.

    With the probability of thinking as score and "answering at once would fail" as positive it measures
    whether the model thinks where that is needed.

    Raises:
        PrunePolicyError: when all rows are alike.
    """
    positive = np.asarray(positive, bool)
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        raise PrunePolicyError("AUC compares rows of two kinds; all rows are of one kind.")
    # The Mann-Whitney U statistic over the number of pairs.
    ranks = _ranks(np.asarray(scores, np.float64))
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return the rank correlation, ties sharing their ranks; 0 where one side doesn't vary."""
    ranks = [_ranks(np.asarray(values, np.float64)) for values in (first, second)]
    a, b = (each - each.mean() for each in ranks)
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def gain_over_random_router(think: ArrayLike, think_accuracy: ArrayLike, answer_accuracy: ArrayLike) -> float:
    """Return the accuracy gained over a router that thinks as often about random prompts.

    Args:
        think: probability of thinking, one per prompt.
        think_accuracy, answer_accuracy: of every prompt, when it is forced to think or to answer at once.
    """
    chances, gains = np.asarray(think, np.float64), np.subtract(think_accuracy, answer_accuracy)
    # A covariance: a random router of the same rate gains the product of the means.
    return float((chances * gains).mean() - chances.mean() * gains.mean())


def pareto_area(points: Sequence[Point], most_tokens: float) -> float:
    """Return the area below the accuracy that is reached within a number of tokens, over 0 to `most_tokens`.

    Divided by `most_tokens`: with accuracies as shares it lies between 0 and 1. Points beyond count nothing.
    """
    area, best, last = 0.0, 0.0, 0.0
    for tokens, accuracy in sorted((p.tokens, p.accuracy) for p in points if p.tokens <= most_tokens):
        # The accuracy within t tokens is that of the best point up to t: a staircase, not a line between
        # points, since no method between two measured ones was shown to exist.
        area += best * (tokens - last)
        best, last = max(best, accuracy), tokens
    return float((area + best * (most_tokens - last)) / most_tokens)


def _ranks(values: Array) -> Array:
    """Return ranks from 1, ties sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    # Ties end at rank e and are c many, e - c + 1 to e; their mean is e - (c - 1) / 2.
    means: Array = ends - (counts - 1) / 2
    return means[place]
