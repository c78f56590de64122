"""What a network is trained and evaluated on, whatever it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunepolicy.pruning.measure.intervals import Interval

Batch = dict[str, Tensor]
Part = Literal["validation", "test"]


class LearningTask(ABC):
    """Training batches, a validation part and a test part.

    Attributes:
        device: that batches are on.
    """

    device: torch.device

    @abstractmethod
    def steps(self, size: int) -> int:
        """Return how many batches of `size` samples an epoch has."""

    @abstractmethod
    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch; they depend on the arguments alone."""

    @abstractmethod
    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the model's logits for a batch, classes in the last axis."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss."""

    def score(self, model: nn.Module, part: Part) -> float:
        """Return how good a model is, higher is better; the model is evaluated as it is."""
        return float(self.outcomes(model, part).mean())

    @abstractmethod
    def outcomes(self, model: nn.Module, part: Part) -> Tensor:
        """Return how good a model is on every sample, higher is better; float64, shape (samples,)."""

    @abstractmethod
    def difference(self, before: Tensor, after: Tensor) -> Interval:
        """Return the interval of the difference between two scores, from the outcomes on the same samples."""

    @abstractmethod
    def inputs(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield the model's keyword inputs of training batches, without augmentation."""


def logits_of(output: Any) -> Tensor:
    """Return the logits: plain networks answer with nothing else."""
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits
