"""What every budget came to on every prompt, and what follows for any way to choose between them.

Every prompt was answered with every budget, whatever a router chooses later: means over these answers are
unbiased for the value of any router that decides by the prompt, without weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from prunepolicy.agents.thinking.router.rollout_file import Rollout, RolloutHead
from prunepolicy.policy.routing.prompt_features import prompt_features
from prunepolicy.pruning.measure.intervals import Interval, mean_interval

Array = NDArray[np.float64]
Price = Literal["tokens", "seconds"]
LIGHTEST, HEAVIEST, HALVINGS = 1e-9, 1e6, 60
"""Weights of a unit of the price between which an oracle's is looked for."""


@dataclass(frozen=True)
class BudgetValue:
    """The value of a way to choose budgets, over prompts.

    Attributes:
        accuracy: share of right answers; price: mean tokens or seconds of an answer; both with intervals.
    """

    accuracy: float
    accuracy_interval: Interval
    price: float
    price_interval: Interval


@dataclass(frozen=True)
class RoutingOutcomes:
    """Prompts with the mean outcomes of their answers.

    Attributes:
        features: (prompts, features).
        accuracy, price: (prompts, budgets).
        texts: what tells prompts apart.
    """

    features: Array
    accuracy: Array
    price: Array
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def of(cls, head: RolloutHead, rollouts: Sequence[Rollout], price: Price) -> Self:
        """Average the rollouts of all prompts that have some with every budget."""
        shape, place = (len(head.prompts), len(head.budgets)), {b: i for i, b in enumerate(head.budgets)}
        count, right, paid = (np.zeros(shape) for _ in range(3))
        for rollout in rollouts:
            cell = rollout.prompt, place[rollout.budget]
            count[cell] += 1
            right[cell] += rollout.correct
            paid[cell] += getattr(rollout, price)
        whole = np.flatnonzero((count > 0).all(1))
        features = [prompt_features(head.prompts[i]) for i in whole]
        texts = tuple(str(head.prompts[i]) for i in whole)
        accuracy, mean_price = (total[whole] / count[whole] for total in (right, paid))
        return cls(np.array(features).reshape(len(whole), -1), accuracy, mean_price, texts)

    def where(self, prompts: NDArray[Any]) -> Self:
        """Return the prompts that a mask or indices choose."""
        texts = tuple(np.array(self.texts, object)[prompts])
        return type(self)(self.features[prompts], self.accuracy[prompts], self.price[prompts], texts)

    def always(self, budget: int) -> Array:
        """Return the probabilities of choosing one budget, (prompts, budgets)."""
        return self.by(np.full(len(self), budget))

    def by(self, chosen: NDArray[np.int64]) -> Array:
        """Return the probabilities, 0 or 1, of choices, (prompts, budgets)."""
        return np.asarray(np.eye(self.accuracy.shape[1])[chosen])

    def value(self, chances: Array) -> BudgetValue:
        """Return the value of choosing with probabilities, (prompts, budgets)."""
        right, paid = (chances * self.accuracy).sum(1), (chances * self.price).sum(1)
        return BudgetValue(float(right.mean()), mean_interval(right), float(paid.mean()), mean_interval(paid))

    def difference(self, one: Array, other: Array) -> tuple[Interval, Interval]:
        """Return the intervals of what one way gains over another on the same prompts, accuracy and price."""
        change = one - other
        return mean_interval((change * self.accuracy).sum(1)), mean_interval((change * self.price).sum(1))

    def most_accurate(self) -> int:
        """Return the budget that is right most often, the cheapest of equals."""
        return int(np.lexsort((self.price.mean(0), -self.accuracy.mean(0)))[0])

    def best_mix(self, price: float) -> Array:
        """Return the most accurate way to draw one of two budgets at a mean price, (prompts, budgets).

        Where even the cheapest budget costs more than `price`, it is that one.
        """
        rates = max(self._mixes(price), key=lambda rates: float(rates @ self.accuracy.mean(0)))
        return np.tile(rates, (len(self), 1))

    def _mixes(self, price: float) -> Iterator[Array]:
        prices, alone = self.price.mean(0), np.eye(self.price.shape[1])
        yield alone[prices.argmin()]
        yield from alone[prices <= price]
        for cheap, dear in combinations(np.argsort(prices, kind="stable"), 2):
            if prices[cheap] <= price < prices[dear]:
                share = (price - prices[cheap]) / (prices[dear] - prices[cheap])
                yield share * alone[dear] + (1 - share) * alone[cheap]

    def oracle(self, price: float) -> Array:
        """Return the most accurate choices at a mean price of who sees the outcomes, (prompts, budgets).

        Between two weights of the price at which many prompts change their budget at once, some of them do.
        """
        low, high = LIGHTEST, HEAVIEST
        if self.value(self._seen(low)).price <= price:
            return self._seen(low)
        for _ in range(HALVINGS):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self.value(self._seen(middle)).price > price else (low, middle)
        dear, cheap = self._seen(low), self._seen(high)
        most, least = self.value(dear).price, self.value(cheap).price
        share = min(max((price - least) / (most - least), 0.0), 1.0)
        return share * dear + (1 - share) * cheap

    def _seen(self, weight: float) -> Array:
        """Return the best choices where a unit of the price weighs so many right answers."""
        return self.by((self.accuracy - weight * self.price).argmax(1))
