"""REINFORCE for row policies: PruneNet's learner, corrected, with every published choice as a switch.

The corrected update draws several choices per layer from a Plackett-Luce model, scores each by the exact
log-probability of what was choices, and subtracts the mean reward of the others (leave-one-out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.agents.learned_pruning.audited_cases import audited_layers
from prunepolicy.agents.learned_pruning.learner import Assignment, Learner
from prunepolicy.agents.learned_pruning.row_blocks import row_blocks
from prunepolicy.agents.training.learner import LearnerState
from prunepolicy.agents.training.optimiser_state import packed, unpack
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.envs.row_layer import RowLayer, refuse_unmeasured
from prunepolicy.envs.shaping import shapings
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig, context_of
from prunepolicy.policy.row_sampling import concrete, draw_by_weight, plackett_luce, plackett_luce_log_prob
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import OldNames, StrictConfig, checked

Network = Sequence[RowLayer]


class ReinforceConfig(StrictConfig):
    """Settings of the learner, with what PruneNet's code does in brackets.

    Attributes:
        shaping: the reward (published: ks_inverse).
        choices_per_layer: sets of rows that are sampled per layer and step (published: 1).
        log_prob: `plackett_luce`, exact, or `published`: the sum of the logs of unnormalised keep weights.
        baseline: `leave_one_out` or `none` (published).
        fresh_noise: `published` log-probabilities draw noise again (published), or none.
        step_per_layer: one optimiser step per layer instead of one for all (published).
        standardise: divide advantages by the standard deviation of the layer's rewards.
        discount: factor on the reward from layer to layer (published: 0.99).
        keep: range of the keep ratios; equal ends fix it (published).
        max_grad_norm: 0 doesn't clip gradients (published: no effect).
    """

    renamed: ClassVar[OldNames] = {"samples": "choices_per_layer", "clip": "max_grad_norm"}
    shaping: str = "function_aware"
    choices_per_layer: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    log_prob: Literal["plackett_luce", "published"] = "plackett_luce"
    baseline: Literal["leave_one_out", "none"] = "leave_one_out"
    fresh_noise: bool = False
    step_per_layer: bool = False
    standardise: bool = True
    discount: float = Field(default=1.0, gt=0, le=1)
    keep: tuple[float, float] = (0.5, 0.95)
    max_grad_norm: float = Field(default=1.0, ge=0)


class Reinforce(Learner):
    """Improves a row policy, one network and one keep ratio per step."""

    config_type: ClassVar[type[StrictConfig]] = ReinforceConfig
    assignment: Assignment | None = None

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other."""
        super().check(recipe)
        recipe.policy_settings("prunenet", PruneNetConfig)
        config = checked(ReinforceConfig, recipe.learner, "learner")
        check_settings(config)
        refuse_unmeasured(shapings[config.shaping].reads)

    def __init__(self, assignment: Assignment) -> None:
        recipe = assignment.recipe
        settings = recipe.policy_settings("prunenet", PruneNetConfig)
        config = checked(ReinforceConfig, recipe.learner, "learner")
        policy = PruneNet(settings)
        reads = shapings[config.shaping].reads
        networks = [row_blocks(session, policy, reads, assignment) for session in assignment.sessions]
        self._prepare(policy, config, networks, recipe.seed)
        self.assignment = assignment

    @classmethod
    def on_networks(
        cls, policy: PruneNet, config: ReinforceConfig, networks: Sequence[Network], seed: int
    ) -> Reinforce:
        """Learn on blocks prepared elsewhere, without models."""
        learner = cls.__new__(cls)
        learner._prepare(policy, config, networks, seed)
        return learner

    def _prepare(
        self, policy: PruneNet, config: ReinforceConfig, networks: Sequence[Network], seed: int
    ) -> None:
        check_settings(config)
        self._policy, self.config, self.networks = policy, config, networks
        self.shaping = shapings[config.shaping]
        self.generator = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.AdamW(policy.scorer.parameters(), lr=config.learning_rate)

    @property
    def policy(self) -> PruneNet:
        """The policy as learned so far."""
        return self._policy

    def step(self) -> dict[str, float]:
        """Choose rows in every layer of one network, and learn from the rewards."""
        network = self.networks[int(torch.randint(len(self.networks), (1,), generator=self.generator))]
        low, high = self.config.keep
        keep = low + (high - low) * float(torch.rand(1, generator=self.generator))
        choices = [self._draw(layer, keep, index, len(network)) for index, layer in enumerate(network)]
        rewards = [self._rewards(layer, choices[index], index) for index, layer in enumerate(network)]
        losses = []
        for index, layer in enumerate(network):
            loss = self._loss(layer, choices[index], rewards[index], context_of(keep, index, len(network)))
            if self.config.step_per_layer:
                self._update(loss)
            losses.append(loss)
        if not self.config.step_per_layer:
            self._update(torch.stack(losses).mean())
        mean_reward = float(torch.cat(rewards).mean())
        return {"reward": mean_reward, "loss": float(torch.stack(losses).mean().detach()), "keep": keep}

    def state(self) -> LearnerState:
        """Return weights, optimiser moments and the generator's state."""
        weights = {f"scorer/{name}": tensor for name, tensor in self._policy.weights().items()}
        generator = {"generator": self.generator.get_state()}
        return LearnerState({**weights, **packed(self.optimiser), **generator})

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned."""
        weights = self._policy.weights()
        self._policy.scorer.load_state_dict({name: state.tensors[f"scorer/{name}"] for name in weights})
        unpack(self.optimiser, state.tensors)
        self.generator.set_state(state.tensors["generator"])

    def evidence(self) -> dict[str, float]:
        """Return how well predicted rises of the loss order plans, where rewards were made of them."""
        if self.assignment is None or "loss_rise" not in self.shaping.reads:
            return {}
        probe = replace(self._policy.probe, seed=self.assignment.recipe.seed)
        return audited_layers(self.assignment, self.networks, probe)

    def _draw(self, layer: RowLayer, keep: float, index: int, layers: int) -> Tensor:
        """Return choices row ids, shape (samples, kept rows)."""
        count = max(1, int(keep * layer.size))
        with torch.no_grad():
            scores = self._scores(layer, context_of(keep, index, layers))
        if self.config.log_prob == "plackett_luce":
            return plackett_luce(scores, count, self.config.choices_per_layer, self.generator)
        draws = [
            draw_by_weight(concrete(scores, self.generator), count, self.generator)
            for _ in range(self.config.choices_per_layer)
        ]
        return torch.stack(draws)

    def _scores(self, layer: RowLayer, context: Tensor) -> Tensor:
        scores: Tensor = self._policy.scorer(layer.features, context)
        return scores

    def _rewards(self, layer: RowLayer, choices: Tensor, index: int) -> Tensor:
        kept = torch.zeros(len(choices), layer.size, dtype=torch.bool).scatter_(1, choices, True)
        rewards = self.shaping(layer.outcomes(kept, self.shaping.reads))
        return torch.from_numpy(rewards) * self.config.discount**index

    def _loss(self, layer: RowLayer, choices: Tensor, rewards: Tensor, context: Tensor) -> Tensor:
        scores = self._scores(layer, context)
        if self.config.log_prob == "plackett_luce":
            # Per choices row, so that gradients don't grow with the number of rows a ratio keeps.
            log_probs = plackett_luce_log_prob(scores, choices) / choices.shape[1]
        else:
            log_probs = self._published_log_probs(scores, choices)
        return -(self._advantages(rewards).float() * log_probs).mean()

    def _published_log_probs(self, scores: Tensor, choices: Tensor) -> Tensor:
        """Return the sum of log keep weights, which the published code takes for the log-probability."""
        # It isn't one: weights aren't normalised over choices, and fresh noise isn't what drew them.
        weights = concrete(scores, self.generator) if self.config.fresh_noise else torch.sigmoid(scores)
        return weights.log()[choices].sum(1)

    def _advantages(self, rewards: Tensor) -> Tensor:
        if self.config.baseline == "leave_one_out":
            rewards = leave_one_out_advantages(rewards)
        if self.config.standardise and len(rewards) > 1:
            # Layers differ in the scale of their rewards by orders of magnitude.
            rewards = rewards / rewards.std().clamp(min=1e-12)
        return rewards

    def _update(self, loss: Tensor) -> None:
        self.optimiser.zero_grad()
        loss.backward()
        if self.config.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self._policy.scorer.parameters(), self.config.max_grad_norm)
        self.optimiser.step()


def check_settings(config: ReinforceConfig) -> None:
    """Raise `UsageError` where settings contradict each other."""
    if config.baseline == "leave_one_out" and config.choices_per_layer < 2:
        raise UsageError("A leave-one-out baseline needs at least 2 choices_per_layer.")
    if not 0 < config.keep[0] <= config.keep[1] < 1:
        raise UsageError(f"learner.keep is a range of fractions between 0 and 1; got {config.keep}.")


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """Return every reward less the mean of the others.

    Source: Kool et al., "Buy 4 REINFORCE Samples, Get a Baseline for Free!".
    """
    # The others' mean doesn't depend on the sample itself, so the gradient stays unbiased.
    return rewards - (rewards.sum() - rewards) / (len(rewards) - 1)
