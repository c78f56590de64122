"""Values of choices, oracles, regret, and the equilibrium of the balance term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.source import ABSTAIN, Array, Choice, PromptSource
from prunepolicy.envs.thinking.terms.balance import Balance
from prunepolicy.envs.thinking.terms.registry import OutcomeTerm


def values(source: PromptSource, taken: Sequence[Choice], term: OutcomeTerm) -> Array:
    """Return the expected payment of every choice on every prompt, (prompts, choices).

    Exact for terms that look at mode and correctness; a term that looks at length sees the mean length.
    """
    count, columns = len(source), []
    for choice in taken:
        accuracy, tokens = source.expected(choice)
        # Both outcomes of every prompt, first all right ones, then all wrong ones, each paid at its own
        # chance: an expectation in one call, without drawing.
        chances = np.concatenate([accuracy, 1 - accuracy])
        outcomes = Rollouts.of(
            np.arange(2 * count),  # every outcome alone: no term compares them
            np.full(2 * count, choice.mode),
            (np.arange(2 * count) < count) & (choice != ABSTAIN),
            np.tile(tokens, 2),
            budget=np.full(2 * count, choice.budget),
            features=np.tile(source.features, (2, 1)),
        )
        columns.append((chances * term.pay(outcomes)).reshape(2, count).sum(0))
    return np.stack(columns, axis=1)


def oracle(source: PromptSource, taken: Sequence[Choice], term: OutcomeTerm) -> Array:
    """Return the probabilities, 0 or 1, of the choices with the largest value, (prompts, choices)."""
    best: Array = np.eye(len(taken))[values(source, taken, term).argmax(1)]
    return best


@dataclass(frozen=True)
class Value:
    """The value of decisions on a source.

    Attributes:
        reward: the mean expected payment; standard_error: of this mean, over prompts.
        regret: what the oracle gets more.
        accuracy: share of correct answers.
        tokens: mean.
        think: share of prompts that are thought about.
    """

    reward: float
    standard_error: float
    regret: float
    accuracy: float
    tokens: float
    think: float


def value_of(
    source: PromptSource, taken: Sequence[Choice], probabilities: ArrayLike, term: OutcomeTerm
) -> Value:
    """Return the value of a policy that decides with `probabilities`, (prompts, choices).

    On cached rollouts this is the unbiased off-policy estimate: every cached outcome weighs with
    the probability of its choice, and nothing was drawn by the policy itself.
    """
    chances = np.asarray(probabilities, np.float64)
    worth = values(source, taken, term)
    paid = (chances * worth).sum(1)
    seen = [source.expected(choice) for choice in taken]
    accuracy, tokens = (np.stack([pair[i] for pair in seen], axis=1) for i in (0, 1))
    thinking = np.array([choice.mode is Mode.THINK for choice in taken], np.float64)
    error = paid.std(ddof=1) / len(paid) ** 0.5 if len(paid) > 1 else 0.0
    return Value(
        float(paid.mean()),
        float(error),
        float((worth.max(1) - paid).mean()),
        float((chances * accuracy).sum(1).mean()),
        float((chances * tokens).sum(1).mean()),
        float((chances @ thinking).mean()),
    )


def equilibrium(gap: float, balance: Balance) -> float:
    """Return the think rate at which the balance term cancels the `gap` in value of thinking.

    For a policy that can't tell prompts apart. With gamma at 0.5 it is 0.5 + gap / strength, within 0
    and 1; where penalties can't eat the gap, all or none think.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        thinking, answering = balance.penalties(middle, 1 - middle)
        # The penalty of thinking grows with the think rate, and that of answering falls: the difference
        # crosses the gap once, and 60 halvings exhaust a double.
        low, high = (middle, high) if thinking - answering < gap else (low, middle)
    return (low + high) / 2


def naive_skips(think_accuracy: ArrayLike, answer_accuracy: ArrayLike) -> NDArray[np.bool_]:
    """Return where the naive reward says not to think: p_answer > (1 + p_think) / 3."""
    return np.asarray(answer_accuracy) > (1 + np.asarray(think_accuracy)) / 3


def adapt_think_skips(
    think_accuracy: ArrayLike, answer_accuracy: ArrayLike, bonus: float = 0.05
) -> NDArray[np.bool_]:
    """Return where AdaptThink's reward says not to think: p_answer + bonus > p_think."""
    return np.asarray(answer_accuracy) + bonus > np.asarray(think_accuracy)


def thinkless_skips(think_accuracy: ArrayLike, answer_accuracy: ArrayLike) -> NDArray[np.bool_]:
    """Return where Thinkless's reward says not to think: p_answer > 0.75 p_think."""
    return np.asarray(answer_accuracy) > 0.75 * np.asarray(think_accuracy)
