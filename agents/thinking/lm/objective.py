"""Clipped policy-gradient loss on tokens, with the variants of GRPO, DAPO, GSPO and Thinkless.

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
        logprobs: under the policy model, with gradients.
        old_logprobs: under the model that sampled them.
        mask: 1 for tokens, 0 for padding.
        ref_logprobs: under the reference model; None where the loss doesn't read it.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    mask: Tensor
    ref_logprobs: Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """The loss, and what to log of it.

    Attributes:
        value: with gradients.
        clipped: number of tokens at which the clip took the gradient away.
    """

    value: Tensor
    clipped: float


def token_weights(mask: Tensor, mode_weight: float | None) -> Tensor:
    """Return the weight of every token of a batch, shape of `mask`.

    Without `mode_weight` all tokens of the batch weigh the same and sum to 1 (DAPO's token mean). With it,
    the first tokens sum to it, and the others to 1 (Thinkless's decoupled loss).
    """
    mask = mask.float()
    if mode_weight is None:
        return mask / mask.sum()
    rest = mask.clone()
    # A completion has one mode token among hundreds: with equal weights its gradient drowns in theirs, and
    # longer completions would vote on the mode more often (Thinkless).
    rest[:, 0] = 0
    weights = rest / rest.sum().clamp(min=1)
    weights[:, 0] = mode_weight / len(mask)
    return weights


def clipped_loss(
    completions: CompletionLogProbs, advantages: Tensor, weights: Tensor, recipe: PolicyLossRecipe
) -> Loss:
    """Return the loss of some rows of a batch; the losses of all its rows sum to the batch's.

    Args:
        completions: of these rows.
        advantages: (rows,).
        weights: of the tokens, from `token_weights` of the whole batch.
    """
    log_ratio = (completions.logprobs - completions.old_logprobs) * completions.mask
    if recipe.ratio == "sequence":
        # GSPO's s_i, the geometric mean of the token ratios: every token of a row then has the same ratio.
        lengths = completions.mask.sum(1).clamp(min=1)
        log_ratio = (log_ratio.sum(1) / lengths)[:, None].expand_as(log_ratio)
    ratio, gain = log_ratio.exp(), advantages[:, None]
    clipped = ratio.clamp(1 - recipe.clip_low, 1 + recipe.clip_high)
    # PPO's pessimistic minimum: the clip removes the gain of moving further, but never hides a loss.
    surrogate = torch.minimum(ratio * gain, clipped * gain)
    is_clipped = (clipped * gain < ratio * gain) & completions.mask.bool()
    reference_kl = torch.zeros_like(ratio)
    if completions.ref_logprobs is not None:
        reference_kl = k3_kl(completions.logprobs, completions.ref_logprobs) * completions.mask
    value = (weights * (recipe.beta * reference_kl - surrogate)).sum()
    return Loss(value, float(is_clipped.sum()))


def k3_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return the estimate of KL(policy || reference) at every token.

    Source: the k3 estimator of GRPO, equation 4: r - 1 - log r with r = reference / policy. As E[r] is 1
    under the policy it is unbiased, and as log r <= r - 1 it is never negative, unlike -log r alone.
    """
    log_ratio = ref_logprobs - logprobs
    return log_ratio.exp() - log_ratio - 1
