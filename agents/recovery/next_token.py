"""Text as a task: predict the next token of windows of equal length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunepolicy.agents.recovery.task import Batch, LearningTask, Part, logits_of
from prunepolicy.pruning.measure.intervals import Interval, mean_interval

EVAL_BATCH = 32
"""Windows per batch where nothing is learned."""


@dataclass(frozen=True)
class NextToken(LearningTask):
    """Predicts the next token of windows; subclasses have the training windows.

    Attributes:
        held_out: windows of both parts, shape (windows, length).
    """

    held_out: Mapping[Part, Tensor]
    device: torch.device

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return shape (batch, length, vocabulary)."""
        return logits_of(model(input_ids=batch["input_ids"], use_cache=False)).float()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean log-perplexity per token."""
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten())

    @torch.no_grad()
    def outcomes(self, model: nn.Module, part: Part) -> Tensor:
        """Return the negative log-perplexity per token of every window."""
        model.eval()
        return -torch.cat([self._losses(model, some) for some in self.held_out[part].split(EVAL_BATCH)]).cpu()

    def difference(self, before: Tensor, after: Tensor) -> Interval:
        """Return the interval of the difference between two log-perplexities."""
        return mean_interval(after - before)

    def _losses(self, model: nn.Module, windows: Tensor) -> Tensor:
        """Return the mean loss of every window, float64."""
        batch = self.placed(windows)
        logits, targets = self.logits(model, batch)[:, :-1], batch["input_ids"][:, 1:]
        losses = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return losses.double().mean(1)

    def placed(self, tokens: Tensor) -> Batch:
        """Return token ids as a batch on the task's device."""
        return {"input_ids": tokens.to(self.device)}
