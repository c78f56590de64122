"""Sample rows without replacement, with their log-probabilities (Plackett-Luce)."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-6


def plackett_luce(scores: Tensor, count: int, draws: int, generator: torch.Generator) -> Tensor:
    """Draw the first `count` ids of rankings, shape (draws, count), best first.

    Adding Gumbel noise to the scores and sorting samples exactly from the Plackett-Luce model:
    row after row, each with probability proportional to exp(score) among those left.
    """
    uniform = torch.rand(draws, len(scores), generator=generator).clamp(SMALLEST, 1 - SMALLEST)
    return (scores.detach() - (-uniform.log()).log()).argsort(dim=1, descending=True)[:, :count]


def plackett_luce_log_prob(scores: Tensor, drawn: Tensor) -> Tensor:
    """Return the exact log-probability of ordered draws (draws, count), shape (draws,)."""
    left = torch.ones(len(drawn), len(scores), dtype=torch.bool)
    left.scatter_(1, drawn, False)
    ordered = scores[drawn]
    # Whatever is never drawn stays in every denominator; the drawn ones leave it one by one.
    rest = scores.expand(len(drawn), -1).masked_fill(~left, -torch.inf).logsumexp(1, keepdim=True)
    tail = torch.cat([rest, ordered.flip(1)], dim=1).logcumsumexp(1)[:, 1:].flip(1)
    return (ordered - tail).sum(1)


def concrete(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Return keep weights o = sigmoid(logit(noise) + score), noise uniform, as published.

    With alpha = sigmoid(score), the score is logit(alpha).
    """
    noise = torch.rand(len(scores), generator=generator).clamp(SMALLEST, 1 - SMALLEST)
    return torch.sigmoid(noise.logit() + scores)


def draw_by_weight(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` distinct ids with chances proportional to `weights`, sorted, as published."""
    chances = weights.detach().clamp(min=torch.finfo(weights.dtype).tiny)
    return torch.multinomial(chances, count, generator=generator).sort().values
