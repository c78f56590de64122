"""How a cut language model learns from the dense one."""

from __future__ import annotations

from pydantic import Field

from prunepolicy.agents.recovery.fit import warm_cosine
from prunepolicy.pruning.io.config import StrictConfig


class RecoveryRecipe(StrictConfig):
    """Settings of the knowledge distillation after a cut.

    Attributes:
        window: tokens that texts are packed into, fewer where the model's context is shorter.
        batch_size: windows per step.
        lora_rank: rank of the adapters that learn in the place of the weights; 0 lets the weights learn.
        learning_rate: the peak, after the warm-up; it falls to 0 along a cosine as the budget ends.
        warm_up: share of all steps during which the learning rate rises.
        max_grad_norm: at which gradients are clipped.
        top_k: next tokens whose probability the teacher states; all others are one outcome.
        passes: times that a text the model writes itself is read, at most: it costs as much as a few steps.
        epoch_tokens: of texts that the model writes itself, where the budget counts epochs.
        evaluations: on held-out text during the training; each may become the result.
    """

    window: int = Field(default=256, ge=2)
    batch_size: int = Field(default=4, ge=1)
    lora_rank: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=3e-4, gt=0)
    warm_up: float = Field(default=0.1, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    top_k: int = Field(default=64, ge=1)
    passes: int = Field(default=4, ge=1)
    epoch_tokens: int = Field(default=65_536, ge=1)
    evaluations: int = Field(default=5, ge=1)

    def rate(self, done: float) -> float:
        """Return the learning rate when a share of all steps is done."""
        return self.learning_rate * warm_cosine(done, self.warm_up)

    def marks(self, steps: int) -> set[int]:
        """Return the steps after which the student is evaluated and saved; the last is one."""
        return {round(steps * part / self.evaluations) for part in range(1, self.evaluations + 1)} - {0}
