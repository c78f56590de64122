"""Meta-training: a metanetwork learns to rewrite trained networks so that they are easy to prune."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field

from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.agents.metanet.meta_step import MetaStep
from prunepolicy.agents.metanet.objective import MetaObjectiveRecipe
from prunepolicy.agents.metanet.recipe import MetanetRecipe
from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.agents.training.learner import LearnerState, SteppedLearner
from prunepolicy.agents.training.optimiser_state import packed, unpack
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.policy.kinds.metanet import Metanet, MetanetConfig
from prunepolicy.pruning.allocators import allocators
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import OldNames, StrictConfig, checked


class MetaTraining(StrictConfig):
    """Settings of the learner.

    Attributes:
        batches_per_step: of the network's own training data, all of them for one network.
        batch_size: samples in each.
        max_grad_norm: at which gradients are clipped; 0 doesn't.
        objective: the terms of the loss.
    """

    renamed: ClassVar[OldNames] = {
        "batches": "batches_per_step",
        "batch": "batch_size",
        "clip": "max_grad_norm",
    }
    batches_per_step: int = Field(default=4, ge=1)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    objective: MetaObjectiveRecipe = MetaObjectiveRecipe()


class MetanetLearner(SteppedLearner):
    """Takes one network of the family per step, in turn."""

    recipe_type: ClassVar[type[RunRecipe]] = MetanetRecipe
    config_type: ClassVar[type[StrictConfig]] = MetaTraining

    @classmethod
    def check(cls, recipe: MetanetRecipe) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other."""
        policy_config(recipe, checked(MetaTraining, recipe.learner, "learner").objective)
        criteria[recipe.pipeline.cut.criterion]
        allocators[recipe.pipeline.cut.allocator]
        recipe.pipeline.cut.budget(1.0)  # Budgets check themselves.

    def __init__(self, recipe: MetanetRecipe, task: LearningTask, networks: Sequence[DataModel]) -> None:
        self.config = checked(MetaTraining, recipe.learner, "learner")
        self.task, self.networks, self.seed = task, networks, recipe.seed
        self.policy = Metanet(policy_config(recipe, self.config.objective))
        self.policy.network.to(task.device)
        parameters = self.policy.network.parameters()
        rate, decay = self.config.learning_rate, self.config.weight_decay
        self.optimiser = torch.optim.AdamW(parameters, rate, weight_decay=decay)
        self.meta_step = MetaStep(self.policy.network, self.config.objective, recipe.seed)
        self.done = 0

    def step(self) -> dict[str, float]:
        """Rewrite one network, and follow the gradient of what becomes of it."""
        network = self.networks[self.done % len(self.networks)]
        stream = self.task.batches(self.config.batch_size, self.seed, self.done)
        self.optimiser.zero_grad()
        found = self.meta_step(
            network, self.task, list(itertools.islice(stream, self.config.batches_per_step))
        )
        if self.config.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.policy.network.parameters(), self.config.max_grad_norm)
        self.optimiser.step()
        self.done += 1
        return found

    def state(self) -> LearnerState:
        """Return weights, optimiser moments, and where budgets and the multiplier are."""
        weights = {f"network/{name}": tensor for name, tensor in self.policy.weights().items()}
        generator = {"generator": self.meta_step.generator.get_state()}
        data = {"done": self.done, "multiplier": self.meta_step.multiplier}
        return LearnerState({**weights, **packed(self.optimiser), **generator}, data)

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned."""
        names = self.policy.weights()
        self.policy.network.load_state_dict({n: state.tensors[f"network/{n}"] for n in names})
        unpack(self.optimiser, state.tensors)
        self.meta_step.generator.set_state(state.tensors["generator"])
        self.meta_step.multiplier, self.done = state.data["multiplier"], state.data["done"]


def policy_config(recipe: MetanetRecipe, objective: MetaObjectiveRecipe) -> MetanetConfig:
    """Return the policy's settings; it ranks as the recipe's pipeline does.

    Raises:
        UsageError: when it says otherwise, or its head can't learn from the objective.
    """
    cut = {"criterion": recipe.pipeline.cut.criterion, "allocator": recipe.pipeline.cut.allocator}
    for key in cut.keys() & recipe.policy.keys():
        raise UsageError(f"The policy ranks as the recipe's cuts do: say pipeline.cut.{key} in its place.")
    config = recipe.policy_settings("metanet", MetanetConfig)
    _check_head(config.head, objective.sparsity, recipe.pipeline.cut.uniform)
    return config.model_copy(update=cut)


def _check_head(head: str, sparsity: str, uniform: bool) -> None:
    """Raise `UsageError` where a head could learn nothing."""
    if (head == "decisions") != (sparsity == "reward"):
        raise UsageError(
            "Decisions and rewards go together: set policy.head to decisions and learner.objective.sparsity "
            "to reward."
        )
    if head in ("gates", "scores") and sparsity != "cut":
        raise UsageError(f"The head {head!r} learns from cuts alone: set learner.objective.sparsity to cut.")
    if head == "decisions" and uniform:
        raise UsageError("Decisions say which layers keep more, and pipeline.cut.uniform makes all alike.")
