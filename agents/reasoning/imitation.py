"""One step of imitation: the mean negative log-likelihood of demonstrations' completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunepolicy.agents.reasoning.scoring import Scorer, by_length

Demonstration = tuple[list[int], list[int]]
"""Token ids of a prompt and of its completion."""


@dataclass(frozen=True)
class Imitation:
    """Computes the loss in micro-batches whose sum is the batch's.

    Attributes:
        token_weight: weigh every token by p (1 - p), p its probability (CHORD, arXiv 2508.11408).
        micro_tokens: padded tokens in one pass.
    """

    scorer: Scorer
    token_weight: bool
    micro_tokens: int

    def losses(self, demonstrations: Sequence[Demonstration]) -> Iterator[Tensor]:
        """Yield losses with gradients; they sum to the mean over tokens, in nats."""
        tokens = sum(len(completion) for _, completion in demonstrations)
        lengths = [len(prompt) + len(completion) for prompt, completion in demonstrations]
        for rows in by_length(lengths, self.micro_tokens):
            prompts, completions = zip(*(demonstrations[row] for row in rows), strict=True)
            log_probs = self.scorer(prompts, completions).log_probs
            weights = torch.ones_like(log_probs)
            if self.token_weight:
                probabilities = log_probs.detach().exp()
                weights = probabilities * (1 - probabilities)
            yield -(weights * log_probs).sum() / tokens
