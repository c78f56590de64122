"""Train a network for some epochs: stochastic gradient descent, a cosine schedule, the same bytes again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from prunepolicy.agents.recovery.distillation import Teacher
from prunepolicy.agents.recovery.memory_format import memory_format_for
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.agents.recovery.sparsity import Penalty
from prunepolicy.agents.recovery.task import Batch, LearningTask
from prunepolicy.agents.training.optimiser_state import packed, unpack
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.config import OldNames, StrictConfig

MODEL = "model/"


class FitRecipe(StrictConfig):
    """How a network is trained.

    Attributes:
        epochs: 0 leaves the network as it is.
        learning_rate: the peak, after the warm-up; it falls to 0 along a cosine.
        warm_up: share of all steps during which the learning rate rises.
        batch_size: samples per step.
        optimiser: `sgd` with Nesterov momentum 0.9, or `adamw`.
        max_grad_norm: at which gradients are clipped; 0 doesn't.
        group_sparsity: strength of the group-sparsity penalty (sparse training before pruning); 0 has none.
    """

    renamed: ClassVar[OldNames] = {
        "batch": "batch_size",
        "clip": "max_grad_norm",
        "shrink": "group_sparsity",
    }
    epochs: int = Field(default=20, ge=0)
    learning_rate: float = Field(default=0.1, gt=0)
    warm_up: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    batch_size: int = Field(default=128, ge=2)
    optimiser: str = Field(default="sgd", pattern="^(sgd|adamw)$")
    max_grad_norm: float = Field(default=0.0, ge=0)
    group_sparsity: float = Field(default=0.0, ge=0)

    def make_optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of a model's parameters."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        rate, decay = self.learning_rate, self.weight_decay
        if self.optimiser == "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=decay)
        return torch.optim.SGD(parameters, rate, 0.9, weight_decay=decay, nesterov=True)

    def rate(self, done: float) -> float:
        """Return the learning rate when a share of all steps is done."""
        return self.learning_rate * warm_cosine(done, self.warm_up)


def warm_cosine(done: float, warm_up: float) -> float:
    """Return the share of the peak learning rate: it rises in a line, then falls to 0 along a cosine."""
    if done < warm_up:
        return done / warm_up
    return (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))) / 2


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean training loss, and the score on the validation part."""

    epoch: int
    loss: float
    score: float


@dataclass(frozen=True)
class Fit:
    """One training, with what it may need beside task and recipe.

    Attributes:
        teacher: for knowledge distillation beside the labels.
        penalty: group-sparsity penalty, added to gradients.
        savepoint: where to go on after a kill.
        dtype: activations are computed in; weights stay as they are.
        validate: after every epoch; else after the last only.
        after: called after every epoch with the model as it is then.
        tick: called with the number of steps done, of all `steps`.
    """

    task: LearningTask
    recipe: FitRecipe
    seed: int = 0
    teacher: Teacher | None = None
    penalty: Penalty | None = None
    savepoint: Savepoint | None = None
    dtype: torch.dtype = torch.float32
    validate: bool = False
    after: Callable[[nn.Module, Epoch], None] = field(default=lambda model, epoch: None)
    tick: Callable[[int], None] = field(default=lambda done: None)

    @property
    def steps(self) -> int:
        """The number of steps in all."""
        return self.recipe.epochs * self.task.steps(self.recipe.batch_size)

    def train(self, model: nn.Module) -> list[Epoch]:
        """Train `model` in place, and return what every epoch came to.

        Raises:
            PrunePolicyError: if the loss becomes NaN or infinite.
        """
        anyhow: Any = model  # torch types no memory format of modules
        return _Training(self, anyhow.to(memory_format=memory_format_for(model))).run()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of one batch."""
        with autocast(batch, self.dtype):
            logits = self.task.logits(model, batch)
        loss = self.task.loss(logits, batch)
        return loss if self.teacher is None else self.teacher.loss(self.task, logits, batch, loss)


class _Training:
    """The moving parts of one training."""

    def __init__(self, fit: Fit, model: nn.Module) -> None:
        self.fit, self.model = fit, model
        self.optimiser = fit.recipe.make_optimiser(model)
        self.history: list[Epoch] = []

    def run(self) -> list[Epoch]:
        """Train from the start, or from the savepoint on."""
        self._restore()
        for epoch in range(len(self.history), self.fit.recipe.epochs):
            loss = self._epoch(epoch)
            if not math.isfinite(loss):
                raise PrunePolicyError(
                    f"Training broke in epoch {epoch + 1}: the loss is {loss}; lower the learning rate."
                )
            last = epoch + 1 == self.fit.recipe.epochs
            score = self.fit.task.score(self.model, "validation") if self.fit.validate or last else math.nan
            self.history.append(Epoch(epoch + 1, loss, score))
            self._save()
            self.fit.after(self.model, self.history[-1])
        self.model.eval()
        return self.history

    def _epoch(self, epoch: int) -> float:
        fit, recipe = self.fit, self.fit.recipe
        steps, total = fit.task.steps(recipe.batch_size), torch.zeros(())
        self.model.train()
        for step, batch in enumerate(fit.task.batches(recipe.batch_size, fit.seed, epoch)):
            rate = recipe.rate((epoch + (step + 1) / steps) / recipe.epochs)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss = fit.loss(self.model, batch)
            self.optimiser.zero_grad()
            loss.backward()
            self._regularise(step)
            self.optimiser.step()
            total += loss.detach().cpu()
            fit.tick(1)
        return float(total / steps)

    def _regularise(self, step: int) -> None:
        if self.fit.penalty is not None:
            self.fit.penalty.add(self.model, step)
        if self.fit.recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.fit.recipe.max_grad_norm)

    def _save(self) -> None:
        if self.fit.savepoint is not None:
            tensors = {f"{MODEL}{name}": tensor for name, tensor in self.model.state_dict().items()}
            rows = [asdict(row) for row in self.history]
            data = {"history": [{**row, "score": _or_none(row["score"])} for row in rows]}
            self.fit.savepoint.save(len(rows), data, {**tensors, **packed(self.optimiser)})

    def _restore(self) -> None:
        savepoint = self.fit.savepoint
        found = savepoint.load() if savepoint is not None else None
        if savepoint is None or found is None:
            return
        data, tensors = found
        try:
            self.model.load_state_dict(_under(MODEL, tensors))
            unpack(self.optimiser, tensors)
            self.history = [_epoch_of(row) for row in data["history"]]
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise savepoint.damaged(error) from error
        self.fit.tick(len(self.history) * self.fit.task.steps(self.fit.recipe.batch_size))


def autocast(batch: Batch, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Compute products in `dtype` while the context lasts."""
    device = next(iter(batch.values())).device.type
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)


def _or_none(score: float) -> float | None:
    return None if math.isnan(score) else score


def _epoch_of(row: Mapping[str, Any]) -> Epoch:
    score = row["score"]
    return Epoch(int(row["epoch"]), float(row["loss"]), math.nan if score is None else float(score))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
