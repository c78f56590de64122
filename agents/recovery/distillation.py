"""Knowledge distillation beside the labels.

Source: Hinton et al., "Distilling the Knowledge in a Neural Network", section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunepolicy.agents.recovery.task import Batch, LearningTask


@dataclass(frozen=True)
class Teacher:
    """A network to distil from.

    Attributes:
        weight: of the distillation loss; that of the labels has the rest.
        temperature: of both softmax distributions.
    """

    model: nn.Module
    weight: float = 0.5
    temperature: float = 2.0

    def loss(self, task: LearningTask, logits: Tensor, batch: Batch, from_labels: Tensor) -> Tensor:
        """Return the loss with the distillation loss mixed in."""
        with torch.no_grad():
            answers = task.logits(self.model.eval(), batch)
        return (1 - self.weight) * from_labels + self.weight * divergence(logits, answers, self.temperature)


def divergence(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """Return the mean KL divergence of the softened distributions, times the squared temperature."""
    # Softened gradients scale with 1 / temperature^2 (section 2), so that the mixture would depend on it.
    found = (logits / temperature).log_softmax(-1).flatten(0, -2)
    wanted = (answers / temperature).log_softmax(-1).flatten(0, -2)
    return temperature**2 * functional.kl_div(found, wanted, log_target=True, reduction="batchmean")
