"""One step of reinforcement learning: from rewards to losses, in micro-batches of similar lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from prunepolicy.agents.thinking.lm.objective import (
    CompletionLogProbs,
    PolicyLossRecipe,
    clipped_loss,
    k3_kl,
    token_weights,
)
from prunepolicy.agents.thinking.lm.rollout_batch import RolloutBatch
from prunepolicy.agents.thinking.lm.scoring import Scorer, TokenScores, by_length
from prunepolicy.envs.thinking.groups import finished_advantages
from prunepolicy.envs.thinking.rollouts import Rewards, Rollouts


def advantages_of(rewards: Rewards, table: Rollouts, recipe: PolicyLossRecipe) -> Tensor:
    """Return per-completion advantages, (rows,); thoughts that the limit cut off have none."""
    if recipe.advantage == "raw":
        return torch.from_numpy(np.where(table.unfinished, 0.0, rewards)).float()
    return torch.from_numpy(finished_advantages(rewards, table, recipe.advantage)).float()


@dataclass
class Sums:
    """Sums over the tokens of a batch, for logs."""

    tokens: float = 0.0
    clipped: float = 0.0
    entropy: float = 0.0
    mode_entropy: float = 0.0
    rows: int = 0

    def add(self, scores: TokenScores, clipped: float) -> None:
        """Add a micro-batch."""
        closing = scores.closing.clamp(1e-9, 1 - 1e-9)
        self.tokens += float(scores.mask.sum())
        self.clipped += clipped
        self.entropy += float(scores.entropy[:, 1:].sum())
        self.mode_entropy += float(-(closing * closing.log() + (1 - closing) * (1 - closing).log()).sum())
        self.rows += len(closing)

    def metrics(self) -> dict[str, float]:
        """Return the share of clipped tokens, the mean token entropy, and that of the choice of mode."""
        return {
            "clipped_ratio": self.clipped / max(1.0, self.tokens),
            # The mode token of every completion has an entropy of its own, below.
            "entropy": self.entropy / max(1.0, self.tokens - self.rows),
            "mode_entropy": self.mode_entropy / max(1, self.rows),
        }


@dataclass(frozen=True)
class Reinforcement:
    """Computes the loss of rows of a batch.

    Attributes:
        reference: scores under the reference model; None where the loss doesn't read them.
        micro_tokens: padded tokens in one pass.
    """

    scorer: Scorer
    reference: Scorer | None
    recipe: PolicyLossRecipe
    micro_tokens: int
    sums: Sums = field(default_factory=Sums)

    def losses(self, batch: RolloutBatch, advantages: Tensor, rows: Sequence[int]) -> Iterator[Tensor]:
        """Yield losses with gradients; they sum to the loss of `rows`, which are one optimiser step."""
        device, tokens = self.scorer.model.device, batch.tokens
        lengths = [len(tokens[row]) for row in rows]
        mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        # Weights of the whole optimiser step, before it is split: micro-batches must not change the loss.
        weights = token_weights(mask, self.recipe.mode_weight).to(device)
        whole = [len(batch.prompts[row]) + length for row, length in zip(rows, lengths, strict=True)]
        for places in by_length(whole, self.micro_tokens):
            chosen = [rows[place] for place in places]
            prompts, completions = [batch.prompts[row] for row in chosen], [tokens[row] for row in chosen]
            scores = self.scorer(prompts, completions)
            width = scores.mask.shape[1]
            old, reference = (
                self._old_logprobs(batch, chosen, scores),
                self._ref_logprobs(prompts, completions),
            )
            logprobs = CompletionLogProbs(scores.log_probs, old, scores.mask, reference)
            loss = clipped_loss(logprobs, advantages[chosen].to(device), weights[places, :width], self.recipe)
            self.sums.add(scores, loss.clipped)
            yield loss.value

    def _old_logprobs(self, batch: RolloutBatch, rows: Sequence[int], scores: TokenScores) -> Tensor:
        return batch.written.log_probs[rows, : scores.mask.shape[1]].to(scores.log_probs.device)

    @torch.no_grad()
    def _ref_logprobs(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> Tensor | None:
        return None if self.reference is None else self.reference(prompts, completions).log_probs


@torch.no_grad()
def reference_kl(policy: Scorer, reference: Scorer, batch: RolloutBatch, micro_tokens: int) -> float:
    """Return the KL divergence from the reference model on the policy's completions, in nats per token."""
    tokens, total, count = batch.tokens, 0.0, 0
    whole = [len(prompt) + len(row) for prompt, row in zip(batch.prompts, tokens, strict=True)]
    for rows in by_length(whole, micro_tokens):
        prompts, completions = [batch.prompts[row] for row in rows], [tokens[row] for row in rows]
        scores, ref = policy(prompts, completions), reference(prompts, completions)
        total += float((k3_kl(scores.log_probs, ref.log_probs) * scores.mask).sum())
        count += sum(len(row) for row in completions)
    return total / count
