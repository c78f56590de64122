"""Gates trained by gradients through the network: what reinforcement learning has to beat.

The forward pass keeps what the policy would keep at one of the recipe's budgets; the backward pass takes
the step for a sigmoid around the threshold (straight-through estimator: Bengio et al., "Estimating or
Propagating Gradients Through Stochastic Neurons", section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from prunepolicy.agents.learned_pruning.learner import Assignment, Learner
from prunepolicy.agents.training.learner import LearnerState
from prunepolicy.agents.training.optimiser_state import packed, unpack
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.policy.base import Instruments
from prunepolicy.policy.budgeting import searched_groups
from prunepolicy.policy.kinds.gates import Gates, GatesConfig
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import OldNames, StrictConfig, checked
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.gates import gates
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats


class GradientGatesConfig(StrictConfig):
    """Settings of the learner.

    Attributes:
        text: training text: `self` or `varied`, sampled from the dense model, the path of a text file, or
            `self+PATH`.
        texts: sequences of it, of either part where there are two.
        length: tokens of each.
        batch_size: sequences per step.
        initial_std: standard deviation of the scores at the start; more makes the start harder to leave.
        temperature: width of the straight-through sigmoid, in the unit of the scores.
        noise: scale of logistic noise on the scores in training; 0 adds none.
        ema_decay: of the exponential moving average of scores that the policy gets; 0 gives it the last.
    """

    renamed: ClassVar[OldNames] = {
        "batch": "batch_size",
        "spread": "initial_std",
        "average": "ema_decay",
    }
    text: str = "self"
    texts: int = Field(default=384, ge=1)
    length: int = Field(default=128, ge=2)
    batch_size: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=0.03, gt=0)
    initial_std: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=0.3, gt=0)
    noise: float = Field(default=0.0, ge=0)
    ema_decay: float = Field(default=0.95, ge=0, lt=1)


class GradientGates(Learner):
    """Gradient descent of one score per unit on the KL divergence from the dense network."""

    config_type: ClassVar[type[StrictConfig]] = GradientGatesConfig

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other."""
        super().check(recipe)
        criteria[recipe.policy_settings("gates", GatesConfig).criterion]
        config = checked(GradientGatesConfig, recipe.learner, "learner")
        if len(recipe.models) != 1 or recipe.held_out:
            raise UsageError("Gates fit the one network they learned: name one model, none as held_out.")
        if config.batch_size > config.texts:
            size, count = config.batch_size, config.texts
            raise UsageError(f"learner.batch_size ({size}) is more than learner.texts ({count}).")

    def __init__(self, assignment: Assignment) -> None:
        recipe = assignment.recipe
        self.check(recipe)
        settings = recipe.policy_settings("gates", GatesConfig)
        self.config = checked(GradientGatesConfig, recipe.learner, "learner")
        self.session, self.budgets = assignment.sessions[0], recipe.every_budget
        self.tokens = _texts(self.session, self.config, recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.instruments = [Instruments(seconds=self.session.seconds(budget)) for budget in self.budgets]
        beginner = Gates(settings)
        self.logits = self._start(beginner, assignment)
        averaged = {name: logits.detach().clone() for name, logits in self.logits.items()}
        self._policy = beginner.learned(averaged, self._network)
        self.optimiser = torch.optim.Adam(self.logits.values(), lr=self.config.learning_rate)

    @property
    def policy(self) -> Gates:
        """The policy as learned so far."""
        return self._policy

    def step(self) -> dict[str, float]:
        """Mask the network for one of the budgets, and take a step down the KL divergence."""
        index = int(torch.randint(len(self.budgets), (1,), generator=self.generator))
        chosen = torch.randperm(len(self.tokens), generator=self.generator)[: self.config.batch_size]
        values = self._values(self.budgets[index], self.instruments[index])
        loss = kl_from_dense(self.session, self.tokens[chosen].to(self.session.device), values)
        self._update(loss)
        kl = float(loss.detach())
        return {"reward": -kl, "loss": kl, "keep": self.budgets[index].keep}

    def state(self) -> LearnerState:
        """Return scores, optimiser moments and the generator's state."""
        generator = {"generator": self.generator.get_state()}
        return LearnerState({**self._scores(), **packed(self.optimiser), **generator})

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned."""
        for name, scores in self._scores().items():
            scores.copy_(state.tensors[name])
        unpack(self.optimiser, state.tensors)
        self.generator.set_state(state.tensors["generator"])

    def _scores(self) -> dict[str, Tensor]:
        """Return the scores that gradients move and their running means, sharing memory."""
        moved = {f"logits/{name}": logits.detach() for name, logits in self.logits.items()}
        return {**moved, **{f"averaged/{name}": values for name, values in self._policy.logits.items()}}

    @property
    def _network(self) -> str:
        return self.session.checkpoint.fingerprint

    def _start(self, beginner: Gates, assignment: Assignment) -> dict[str, Tensor]:
        """Return the heuristic's scores as leaves that take gradients."""
        graph, budget = self.session.checkpoint.graph, self.budgets[0]
        probe = replace(beginner.probe, seed=assignment.recipe.seed)
        stats = assignment.collected.stats(self.session, beginner.needs(graph, budget), probe)
        logits = beginner.start(graph, searched_groups(graph, budget), stats)
        return {name: (self.config.initial_std * values).requires_grad_() for name, values in logits.items()}

    def _values(self, budget: Budget, instruments: Instruments) -> dict[str, Tensor]:
        """Return the multipliers of the units, 0 or 1, with gradients, where the budget removes any."""
        logits = {name: self._noisy(values) for name, values in self.logits.items()}
        noisy, stats = self._policy.learned(logits, self._network), Stats(fingerprint=self._network)
        plan = noisy.plan(self.session.checkpoint.graph, stats, budget, instruments)
        return {
            name: straight_through(logits[name], units, self.config.temperature).to(self.session.device)
            for name, units in plan.keep.items()
        }

    def _update(self, loss: Tensor) -> None:
        """Step down the gradient of the scores; the model's own weights get none."""
        learned = list(self.logits.values())
        # Where a budget leaves a group whole, its scores have no part in the loss.
        gradients = torch.autograd.grad(loss, learned, allow_unused=True)
        for logits, gradient in zip(learned, gradients, strict=True):
            logits.grad = gradient
        self.optimiser.step()
        for name, averaged in self._policy.logits.items():
            averaged.lerp_(self.logits[name].detach(), 1 - self.config.ema_decay)

    def _noisy(self, logits: Tensor) -> Tensor:
        if not self.config.noise:
            return logits
        # The logit of a uniform variable is logistic, the noise of binary concrete relaxations.
        chance = torch.rand(logits.shape, generator=self.generator).clamp(1e-6, 1 - 1e-6)
        return logits + self.config.noise * torch.logit(chance)


def kl_from_dense(session: ModelSession, tokens: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Return the KL divergence of the gated network from the dense one, in nats per token.

    Args:
        tokens: shape (texts, length).
        values: the gates, as `gates` takes them.
    """
    model, graph = session.model, session.checkpoint.graph
    with torch.no_grad():
        dense = model(input_ids=tokens, use_cache=False).logits.float().log_softmax(-1)
    with gates(model, graph, values):
        pruned = model(input_ids=tokens, use_cache=False).logits.float().log_softmax(-1)
    per_entry = functional.kl_div(pruned, dense, log_target=True, reduction="sum")
    return per_entry / tokens.numel()


def straight_through(logits: Tensor, kept: Sequence[int], temperature: float) -> Tensor:
    """Return 1 for kept units and 0 for others, with the gradient of a sigmoid around the threshold.

    The threshold lies halfway between the lowest score that stays and the highest that goes.
    """
    mask = torch.zeros_like(logits)
    mask[list(kept)] = 1
    scores = logits.detach()
    threshold = (scores[mask == 1].min() + scores[mask == 0].max()) / 2
    soft = ((logits - threshold) / temperature).sigmoid()
    # The value is the mask, since the other two cancel; the gradient is the sigmoid's.
    return mask + soft - soft.detach()


def _texts(session: ModelSession, config: GradientGatesConfig, seed: int) -> Tensor:
    """Return what to learn on, shape (texts, length)."""
    if session.checkpoint.adapter.task != "causal":
        raise UsageError(f"{session.name} doesn't write text, so its gates can't be learned from any.")
    return session.probe(Probe(config.text, config.texts, config.length, seed))["input_ids"].cpu()
