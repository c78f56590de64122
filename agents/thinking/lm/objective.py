"""What a step of reinforcement learning descends: clipped policy gradients on tokens, in one place.

Sources: GRPO (arXiv 2402.03300), the token mean and the higher upper clip of DAPO (2503.14476), the sequence
ratio of GSPO (2507.18071), the weight of the mode token of Thinkless (2505.13379).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.pruning.io.config import OldNames, StrictConfig


class PolicyLossRecipe(StrictConfig):
    """Settings of the loss.

    Attributes:
        ratio: of probabilities, for every token (GRPO) or for the whole sequence (GSPO).
        clip_low: of the ratio below 1; `clip_high` above (DAPO's clip-higher).
        beta: weight of the KL divergence from the reference model.
        mode_weight: weight of the first token, which says whether to think, apart from all others; None
            counts it as one token among them.
        advantage: divide by the standard deviation of the `group` or of the `batch`, `none` only subtracts
            the group's mean, `raw` takes rewards as they are.
    """

    renamed: ClassVar[OldNames] = {"kl": "beta"}
    ratio: Literal["token", "sequence"] = "token"
    clip_low: float = Field(default=0.2, gt=0)
    clip_high: float = Field(default=0.2, gt=0)
    beta: float = Field(default=0.0, ge=0)
    mode_weight: float | None = Field(default=None, gt=0)
    advantage: Literal["group", "batch", "none", "raw"] = "group"


@dataclass(frozen=True)
class CompletionLogProbs:
    """Log-probabilities of the tokens of completions, all (rows, tokens); 0 in padding.

    Attributes:
        now: under the model that learns, with gradients.
        drawn: under what they were drawn from.
        start: under the model that learning started with; None where nothing reads it.
    """

    now: Tensor
    drawn: Tensor
    mask: Tensor
    start: Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """What to descend, and what to log.

    Attributes:
        value: with gradients.
        clipped: number of tokens at which the clip took the gradient away.
    """

    value: Tensor
    clipped: float


def token_weights(mask: Tensor, mode_weight: float | None) -> Tensor:
    """Return what every token of a batch counts, shape of `mask`.

    Without `mode_weight` all tokens of the batch count the same and sum to 1. With it, the first tokens sum
    to it, and the others to 1.
    """
    mask = mask.float()
    if mode_weight is None:
        return mask / mask.sum()
    rest = mask.clone()
    rest[:, 0] = 0
    weights = rest / rest.sum().clamp(min=1)
    weights[:, 0] = mode_weight / len(mask)
    return weights


def clipped_loss(
    scored: CompletionLogProbs, advantages: Tensor, weights: Tensor, recipe: PolicyLossRecipe
) -> Loss:
    """Return the loss of some rows of a batch; the losses of all its rows sum to the batch's.

    Args:
        advantages: (rows,).
        weights: of the tokens, from `token_weights` of the whole batch.
    """
    gap = (scored.now - scored.drawn) * scored.mask
    if recipe.ratio == "sequence":
        gap = (gap.sum(1) / scored.mask.sum(1).clamp(min=1))[:, None].expand_as(gap)
    ratio, gain = gap.exp(), advantages[:, None]
    clipped = ratio.clamp(1 - recipe.clip_low, 1 + recipe.clip_high)
    surrogate = torch.minimum(ratio * gain, clipped * gain)
    lost = (clipped * gain < ratio * gain) & scored.mask.bool()
    divergence = torch.zeros_like(ratio)
    if scored.start is not None:
        divergence = divergence_of(scored.now, scored.start) * scored.mask
    value = (weights * (recipe.beta * divergence - surrogate)).sum()
    return Loss(value, float(lost.sum()))


def divergence_of(now: Tensor, start: Tensor) -> Tensor:
    """Return the estimate of KL(now || start) at every token: never negative, right in expectation.

    Source: the k3 estimator that GRPO uses.
    """
    gap = start - now
    return gap.exp() - gap - 1
