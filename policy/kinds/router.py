"""Router: how much a language model is to think about a request, from the request's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, StringConstraints
from torch import Tensor

from prunepolicy.policy.base import Instruments, Policy, PolicyConfig, StoredPolicy, policies
from prunepolicy.policy.routing.controls.registry import ThinkBudget, checked_budgets
from prunepolicy.policy.routing.prompt_features import FEATURES, Messages, prompt_features
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

FARTHEST = 4.0
"""Standard deviations to which features are clipped, so that none decides alone about a strange prompt."""
SHOWN = 3
"""Features that a reason names."""
LARGEST = 30.0
"""Of logarithms and logits: beyond it, exponentials of a damaged file's numbers would be no numbers."""
NUMBERS = ("chance", "price", "mean", "scale")
Numbers: TypeAlias = NDArray[np.float64]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}$")]
Tokens = Annotated[int, Field(ge=0, le=1 << 24, strict=True)]


class RouterConfig(PolicyConfig):
    """Settings of a router.

    Attributes:
        model: the served model whose answers it learned from; empty before it learned.
        control: where requests carry the budget.
        budgets: what it chooses between, in tokens or words.
        price: what it saves, the unit of prices.
        weight: right answers that a unit of the price weighs.
    """

    model: Annotated[str, Field(max_length=512)] = ""
    control: str = "thinking_token_budget"
    budgets: Annotated[tuple[Tokens | Word, ...], Field(max_length=64)] = (0, 512, 2048, 8192)
    price: Literal["tokens", "seconds"] = "tokens"
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


@dataclass(frozen=True)
class RoutedBudget:
    """What a router chose.

    Attributes:
        budget: in tokens, or a word.
        reason: what it is expected to come to beside the second best budget, and the features that moved the
            chances of a right answer apart most; no word of the prompt.
    """

    budget: ThinkBudget
    reason: str


@policies.register
class Router(Policy):
    """Predicts of every budget the chance of a right answer and its price, and takes what is worth most.

    The chance is a logistic function of the request's features, the price an exponential one, and the worth
    is the chance less `weight` times the price.

    Args:
        numbers: coefficients `chance` and `price`, (budgets, 1 + features), and the features' `mean` and
            `scale`, (features,).
    """

    config_type: ClassVar[type[PolicyConfig]] = RouterConfig
    config: RouterConfig

    def __init__(
        self, config: RouterConfig | None = None, name: str = "", numbers: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__(config, name)
        checked_budgets(self.config.control, self.config.budgets)
        self._numbers = dict(numbers or _untrained(self.config))
        self.predictor = Predictor(*(self._numbers[key].double().numpy() for key in NUMBERS))

    @classmethod
    def restore(cls, stored: StoredPolicy, config: RouterConfig, name: str) -> Self:
        """Build the router and read what it has learned.

        Raises:
            PrunePolicyError: when its numbers are damaged.
        """
        numbers = stored.weights(_untrained(config))
        if not (numbers["scale"] > 0).all():
            raise PrunePolicyError(
                f"{stored.folder} holds a scale that isn't positive, so the router is useless."
            )
        return cls(config, name, numbers)

    def weights(self) -> Mapping[str, Tensor]:
        """Return what was learned."""
        return self._numbers

    def budget(self, messages: Messages) -> ThinkBudget:
        """Return how much to think about a conversation, in tokens or as a word.

        Args:
            messages: as the API takes them: `[{"role": "user", "content": "..."}]`.

        Raises:
            UsageError: when the last message holds no text.
        """
        try:
            return self.decide(messages).budget
        except ValueError as error:
            raise UsageError(f"The router {self.name!r} can't choose a budget: {error}.") from error

    def decide(self, messages: Messages) -> RoutedBudget:
        """Return the budget and why it was chosen.

        Raises:
            ValueError: when the last message holds no text.
        """
        features = prompt_features(messages)
        chance, price = self.predictor.predicted(features)
        order = np.argsort(self.config.weight * price - chance, kind="stable")
        best, second = order[0], order[1]
        moved = self.predictor.moved(features, best, second)
        parts = [f"{FEATURES[i]} {moved[i]:+.2f}" for i in np.argsort(-np.abs(moved), kind="stable")[:SHOWN]]
        expected = [
            f"{self.config.budgets[i]}: {chance[i]:.2f} right for {price[i]:.4g} {self.config.price}"
            for i in (best, second)
        ]
        return RoutedBudget(self.config.budgets[best], "; ".join([*expected, ", ".join(parts)]))

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Refuse to prune.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"The policy {self.name!r} chooses how much to think about a request, not what to remove from a "
            "network; `prunepolicy think serve` puts it before a server."
        )

    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Refuse to prune, as `groups` does."""
        self.groups(graph, budget)
        return set()

    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Refuse to prune, as `groups` does."""
        return Plan({group.name: () for group in self.groups(graph, budget)}, budget, self.name)


@dataclass(frozen=True)
class Predictor:
    """Linear functions of standardised features.

    Attributes:
        chance: coefficients of the logit of a right answer, (budgets, 1 + features).
        price: of the logarithm of the price, (budgets, 1 + features).
        mean, scale: of the features, (features,).
    """

    chance: Numbers
    price: Numbers
    mean: Numbers
    scale: Numbers

    def predicted(self, features: Numbers) -> tuple[Numbers, Numbers]:
        """Return chances and prices, (..., budgets), for features, (..., features)."""
        observed = standardised(features, self.mean, self.scale)
        logits, logs = (np.clip(observed @ c.T, -LARGEST, LARGEST) for c in (self.chance, self.price))
        return 1 / (1 + np.exp(-logits)), np.exp(logs)

    def choices(self, features: Numbers, weight: float) -> NDArray[np.int64]:
        """Return the number of the budget that is worth most, the first of equals, (...,)."""
        chance, price = self.predicted(features)
        return np.asarray((chance - weight * price).argmax(-1))

    def moved(self, features: Numbers, budget: int, other: int) -> Numbers:
        """Return how far each feature moved the logit of a right answer between two budgets, (features,)."""
        change = self.chance[budget] - self.chance[other]
        moved: Numbers = (change * standardised(features, self.mean, self.scale))[1:]
        return moved


def standardised(features: Numbers, mean: Numbers, scale: Numbers) -> Numbers:
    """Return clipped standard scores, (..., features), after a leading 1, (..., 1 + features)."""
    scores = np.clip((features - mean) / scale, -FARTHEST, FARTHEST)
    return np.concatenate([np.ones((*scores.shape[:-1], 1)), scores], axis=-1)


def _untrained(config: RouterConfig) -> dict[str, Tensor]:
    """Return numbers that prefer no budget."""
    count, budgets = len(FEATURES), len(config.budgets)
    shapes = {"chance": (budgets, 1 + count), "price": (budgets, 1 + count), "mean": (count,)}
    return {**{name: torch.zeros(shape) for name, shape in shapes.items()}, "scale": torch.ones(count)}
