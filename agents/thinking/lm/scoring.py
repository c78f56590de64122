"""A model's log-probabilities of given completions, in batches of like lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Ids = Sequence[int]


@dataclass(frozen=True)
class TokenScores:
    """What a model says about completions, (rows, longest completion), 0 in padding.

    Attributes:
        log_probs: of the tokens.
        entropy: of the distribution that each was drawn from, in nats; without gradients.
        closing: probability of closing the thought at once, (rows,); without gradients.
    """

    log_probs: Tensor
    entropy: Tensor
    closing: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Scorer:
    """Runs the model on prompts and completions.

    Attributes:
        closing: token id that closes a thought.
        temperature: that completions were drawn at.
        dtype: to compute in; weights stay what they are.
    """

    model: Any
    closing: int
    pad: int
    temperature: float = 1.0
    dtype: torch.dtype = torch.float32

    def __call__(self, prompts: Sequence[Ids], completions: Sequence[Ids]) -> TokenScores:
        """Score completions of the prompts, one each."""
        device = self.model.device
        ids, attention = _right_padded(prompts, completions, self.pad)
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            out = self.model(input_ids=ids.to(device), attention_mask=attention.to(device), use_cache=False)
        places, mask = _places(prompts, completions)
        places, mask = places.to(device), mask.to(device)
        rows = torch.arange(len(prompts), device=device)[:, None]
        # Log-probabilities at the temperature of sampling: the ratio of policies must start at 1.
        logits = out.logits[rows, places].float() / self.temperature
        every = logits.log_softmax(-1)
        # Logits at position t score the token at t + 1; in padding any target serves, since the mask drops
        # it.
        targets = ids.to(device)[rows, (places + 1).clamp(max=ids.shape[1] - 1)]
        log_probs = every.gather(2, targets[..., None])[..., 0] * mask
        with torch.no_grad():
            entropy = -(every.exp() * every).sum(-1) * mask
            closing = every[:, 0, self.closing].exp()
        return TokenScores(log_probs, entropy, closing, mask)


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield row indices in batches of at most `tokens` padded tokens, rows of like lengths together."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if batch and (len(batch) + 1) * lengths[row] > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _right_padded(prompts: Sequence[Ids], completions: Sequence[Ids], pad: int) -> tuple[Tensor, Tensor]:
    rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    attention = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, attention


def _places(prompts: Sequence[Ids], completions: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    """Return where the logits of every completion token lie, and which tokens there are."""
    start = torch.tensor([len(prompt) - 1 for prompt in prompts])[:, None]
    lengths = torch.tensor([len(completion) for completion in completions])[:, None]
    offsets = torch.arange(int(lengths.max()))[None]
    mask = offsets < lengths
    # Padding reads the first place, which always exists; the mask takes it out of every sum.
    return torch.where(mask, start + offsets, start), mask.float()
