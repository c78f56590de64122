"""The teacher's most probable next tokens, and how far a student's distribution is from them.

Source of the loss: Hinton et al., "Distilling the Knowledge in a Neural Network", section 2, with all tokens
but the most probable ones as one outcome, which makes it the divergence of two coarser distributions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor

LEAST = 1e-6
"""Probability of all other tokens below which rounding decides."""


@dataclass(frozen=True)
class TopK:
    """The largest next-token probabilities at every position; rounded, so that stored and fresh ones agree.

    Attributes:
        tokens: int32, shape (windows, length, k).
        log_probs: float16, of the same shape.
    """

    tokens: Tensor
    log_probs: Tensor

    @classmethod
    def of(cls, logits: Tensor, k: int) -> Self:
        """Return those of logits with the vocabulary in the last axis."""
        logits = logits.float()
        values, tokens = logits.topk(min(k, logits.shape[-1]))
        return cls(tokens.int(), (values - logits.logsumexp(-1, keepdim=True)).half())

    def divergence(self, logits: Tensor) -> Tensor:
        """Return the mean over positions of KL(teacher || student), in nats.

        Args:
            logits: the student's, shape (windows, length, vocabulary).
        """
        logits = logits.float()
        wanted = self.log_probs.float()
        found = logits.gather(-1, self.tokens.long()) - logits.logsumexp(-1, keepdim=True)
        likely = (wanted.exp() * (wanted - found)).sum(-1)
        rest, found_rest = (_others(log_probs) for log_probs in (wanted, found))
        return (likely + rest * (rest.log() - found_rest.log())).mean()


def _others(log_probs: Tensor) -> Tensor:
    """Return the probability of all tokens that aren't listed."""
    return (1 - log_probs.exp().sum(-1)).clamp_min(LEAST)
