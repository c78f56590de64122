"""Rules that decide without learning: the probability of thinking about every prompt."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.thinking.source import ANSWER, THINK, Array, PromptSource


def always(source: PromptSource) -> Array:
    """Think about everything."""
    return np.ones(len(source))


def never(source: PromptSource) -> Array:
    """Answer everything at once."""
    return np.zeros(len(source))


def at_random(source: PromptSource, rate: float) -> Array:
    """Think about a share `rate` of the prompts, whichever they are."""
    return np.full(len(source), rate)


def hardest(source: PromptSource, rate: float) -> Array:
    """Think about the share `rate` of the prompts where thinking gains most accuracy: the best router."""
    gain = source.expected(THINK)[0] - source.expected(ANSWER)[0]
    ranks = np.argsort(np.argsort(-gain, kind="stable"), kind="stable")
    return np.clip(rate * len(source) - ranks, 0, 1)
