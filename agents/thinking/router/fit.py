"""Learn a router from rollouts: the cheapest one that keeps the accuracy, as prompts apart from it confirm.

Chances of right answers and prices are predicted from the prompt, for every budget. What the price weighs
beside a right answer is chosen by cross-validation among the prompts to learn from, and the router that comes
out is valued once, on prompts held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from prunepolicy.agents.thinking.router.outcomes import Array, RoutingOutcomes
from prunepolicy.policy.kinds.router import LARGEST, Predictor, standardised
from prunepolicy.pruning.errors import BudgetError, UsageError

FEWEST = 40
"""Prompts; with fewer, a tenth of a right answer more or less is chance."""
HELD_OUT, FOLDS = 0.25, 5
WEIGHTS = (0.0, *np.geomspace(0.003, 3.0, 60).tolist())
"""What the mean price of the dearest budget weighs, in right answers."""
PENALTIES = (0.003, 0.03, 0.3)
"""Of squared coefficients, a prompt."""
STEPS = 12
"""Of Newton's method, which doubles the right digits in each."""
LOWER = 0.01
"""Between shares of accuracy that are tried in turn when the one that was asked for can't be kept."""


@dataclass(frozen=True)
class LearnedRouter:
    """What was learned, and what a unit of the price weighs, in right answers."""

    predictor: Predictor
    weight: float

    def chances(self, outcomes: RoutingOutcomes) -> Array:
        """Return the probabilities, 0 or 1, of the budgets that it chooses, (prompts, budgets)."""
        return outcomes.by(self.predictor.choices(outcomes.features, self.weight))


@dataclass(frozen=True)
class Candidate:
    """A router, and what the like of it came to on prompts of other folds.

    Attributes:
        accuracy, price: means over prompts, each decided by a router that didn't learn from it.
        error: standard error of the accuracy beside that of the most accurate budget.
    """

    router: LearnedRouter
    accuracy: float
    price: float
    error: float


class RouterFit:
    """Prompts to learn from, prompts held out, and the search between them.

    Args:
        outcomes: of all prompts.
        seed: decides which prompts are held out, and the folds.

    Raises:
        UsageError: when there are too few prompts, or no budget is ever right.
    """

    def __init__(self, outcomes: RoutingOutcomes, seed: int = 0) -> None:
        ranks = _ranks(outcomes.texts, seed)
        different = int(ranks.max(initial=-1)) + 1
        if different < FEWEST:
            raise UsageError(
                f"There are {different} different prompts with answers of every budget; {FEWEST} are needed, "
                "and some hundreds make it worthwhile."
            )
        held_out = ranks < HELD_OUT * different
        self.train, self.held_out = outcomes.where(~held_out), outcomes.where(held_out)
        self._folds = ranks[~held_out] % FOLDS
        self.reference = self.train.most_accurate()
        if not self.train.accuracy[:, self.reference].any():
            raise UsageError(
                "No answer with any budget is right: look at --verifier, and at what was answered."
            )

    def router(self, keep: float) -> LearnedRouter:
        """Return the cheapest router that keeps the share `keep` of the most accurate budget's accuracy.

        Raises:
            BudgetError: when none does on held-out prompts; the sentence names the nearest share kept.
        """
        found = self._keeping(keep)
        if found is not None:
            return found
        lower = (round(keep - LOWER * n, 4) for n in range(1, round(keep / LOWER)))
        nearest = next((share for share in lower if self._keeping(share) is not None), None)
        hint = "" if nearest is None else f"; the nearest that one keeps: --keep-accuracy {nearest:g}"
        raise BudgetError(
            f"No router was found that keeps {keep:.1%} of the accuracy on held-out prompts{hint}."
        )

    def kept(self, router: LearnedRouter) -> float:
        """Return the share of the most accurate budget's accuracy that a router keeps on held-out prompts."""
        ours, best = (
            self.held_out.value(chances).accuracy
            for chances in (router.chances(self.held_out), self.held_out.always(self.reference))
        )
        return ours / best if best else 1.0

    def frontier(self) -> Iterator[LearnedRouter]:
        """Yield the best router of every weight of the price, by cross-validation."""
        for weight in dict.fromkeys(each.router.weight for each in self.candidates):
            same = [each for each in self.candidates if each.router.weight == weight]
            yield max(same, key=lambda each: each.accuracy - weight * each.price).router

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Routers of all penalties and weights, cross-validated."""
        dearest = max(float(self.train.price.mean(0).max()), 1e-9)
        found = []
        for penalty in PENALTIES:
            folds = [
                (self._folds == n, _learned(self.train.where(self._folds != n), penalty))
                for n in range(FOLDS)
            ]
            whole = _learned(self.train, penalty)
            for weight in (each / dearest for each in WEIGHTS):
                chosen = np.zeros(len(self.train), np.int64)
                for apart, predictor in folds:
                    chosen[apart] = predictor.choices(self.train.features[apart], weight)
                found.append(self._candidate(LearnedRouter(whole, weight), chosen))
        return tuple(found)

    def _candidate(self, router: LearnedRouter, chosen: NDArray[np.int64]) -> Candidate:
        rows = np.arange(len(chosen))
        right, paid = self.train.accuracy[rows, chosen], self.train.price[rows, chosen]
        lost = right - self.train.accuracy[:, self.reference]
        error = float(lost.std(ddof=1) / len(lost) ** 0.5)
        return Candidate(router, float(right.mean()), float(paid.mean()), error)

    def _keeping(self, keep: float) -> LearnedRouter | None:
        """Return the router that is chosen for a share of accuracy, if it keeps it on held-out prompts."""
        best = float(self.train.accuracy[:, self.reference].mean())
        slack = [(each, each.accuracy - keep * best) for each in self.candidates]
        # The cheapest of many candidates owes its accuracy to luck in part: a standard error makes up for it.
        safe = [each for each, more in slack if more >= each.error] or [e for e, more in slack if more >= 0]
        if not safe:
            return None
        router = min(safe, key=lambda each: each.price).router
        return router if self.kept(router) >= keep else None


def _learned(outcomes: RoutingOutcomes, penalty: float) -> Predictor:
    """Fit chances and prices of every budget, as exactly as they are saved."""
    mean, spread = _saved(outcomes.features.mean(0)), outcomes.features.std(0)
    scale = _saved(np.where(spread < 1e-6, 1.0, spread))  # A feature that never varies says nothing.
    observed = standardised(outcomes.features, mean, scale)
    chance = [_logistic(observed, right, penalty) for right in outcomes.accuracy.T]
    price = [_exponential(observed, paid, penalty) for paid in outcomes.price.T]
    return Predictor(_saved(np.array(chance)), _saved(np.array(price)), mean, scale)


def _logistic(observed: Array, shares: Array, penalty: float) -> Array:
    """Return the coefficients of a penalised logistic regression of shares, (1 + features,).

    A right and a wrong answer more keep the optimum finite where all answers are right, or none.
    """
    count = len(shares)
    shares = (count * shares + 1) / (count + 2)
    coefficients = np.zeros(observed.shape[1])
    coefficients[0] = np.log(shares.mean() / (1 - shares.mean()))
    ridge = _ridge(observed, penalty)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-np.clip(observed @ coefficients, -LARGEST, LARGEST)))
        slope = observed.T @ (shares - chance) - ridge @ coefficients
        curve = (observed * (chance * (1 - chance))[:, None]).T @ observed + ridge
        curve[0, 0] += 1e-6 * count  # Far from the optimum nothing else may bound a step.
        coefficients = coefficients + np.linalg.solve(curve, slope)
    return coefficients


def _exponential(observed: Array, prices: Array, penalty: float) -> Array:
    """Return the coefficients of a penalised regression of the prices' logarithms, right in the mean."""
    logs = np.log(np.maximum(prices, 1e-6))
    normal = observed.T @ observed + _ridge(observed, penalty)
    coefficients = np.asarray(np.linalg.solve(normal, observed.T @ logs), np.float64)
    coefficients[0] += np.log(max(prices.mean(), 1e-6) / np.exp(observed @ coefficients).mean())
    return coefficients


def _ridge(observed: Array, penalty: float) -> Array:
    """Return the penalty's matrix, which leaves the intercept free."""
    ridge = penalty * len(observed) * np.eye(observed.shape[1])
    ridge[0, 0] = 0.0
    return ridge


def _saved(numbers: Array) -> Array:
    return numbers.astype(np.float32).astype(np.float64)


def _ranks(texts: tuple[str, ...], seed: int) -> NDArray[np.int64]:
    """Return a random number for every different text, 0 for the first; equal texts have equal ones."""
    hashes = [hashlib.sha256(f"{seed} {text}".encode()).hexdigest() for text in texts]
    _, ranks = np.unique(np.array(hashes, str), return_inverse=True)
    return np.asarray(ranks, np.int64)
