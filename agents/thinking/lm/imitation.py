"""One step of imitation: the mean negative log-likelihood of demonstrations' completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from prunepolicy.agents.thinking.lm.scoring import Scorer, by_length

Demonstration = tuple[list[int], list[int]]
"""Token ids of a prompt and of its completion."""


@dataclass(frozen=True)
class Imitation:
    """Computes the loss in micro-batches whose sum is the batch's.

    Attributes:
        token_weight: weigh every token by p (1 - p), p its probability (CHORD, arXiv 2508.11408).
        micro_tokens: padded tokens in one pass.
        mean: over all tokens, or over demonstrations, each of which is a mean over its own.
    """

    scorer: Scorer
    token_weight: bool
    micro_tokens: int
    mean: Literal["tokens", "demonstrations"] = "tokens"

    def losses(self, demonstrations: Sequence[Demonstration]) -> Iterator[Tensor]:
        """Yield losses with gradients; they sum to the mean, in nats per token."""
        counts = [len(completion) for _, completion in demonstrations]
        lengths = [len(prompt) + len(completion) for prompt, completion in demonstrations]
        for rows in by_length(lengths, self.micro_tokens):
            prompts, completions = zip(*(demonstrations[row] for row in rows), strict=True)
            scores = self.scorer(prompts, completions)
            weights = scores.mask / sum(counts)
            if self.mean == "demonstrations":
                weights = scores.mask / scores.mask.sum(1, keepdim=True) / len(counts)
            if self.token_weight:
                probabilities = scores.log_probs.detach().exp()
                weights = weights * probabilities * (1 - probabilities)
            yield -(weights * scores.log_probs).sum()
