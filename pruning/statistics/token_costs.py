"""What it costs to do without a token: how often it is written, times what its pieces cost more."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.statistics.probe import Inputs, Tick, batches_of
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import VOCABULARY
from prunepolicy.pruning.vocabulary.tokenizer_file import TokenizerFile

PRIOR = 0.1
"""Share of what is expected of tokens that follows from their number alone, whatever was read."""
FLAT = 100
"""Numbers over which that part hardly falls: bytes and letters come first in no order."""


@dataclass(frozen=True)
class TokenUse:
    """How a vocabulary is used, per token.

    Attributes:
        frequency: share of all tokens of a text that are this one, summing to 1.
        first: nats by which its first piece is less likely where it stands, per use.
    """

    frequency: Tensor
    first: Tensor

    def with_text(self, ids: Tensor) -> TokenUse:
        """Return the use in texts of which one half are like the user's, whose tokens are `ids`."""
        counts = torch.bincount(ids, minlength=len(self.frequency)).double()
        return TokenUse((self.frequency + counts / max(1, len(ids))) / 2, self.first)

    def without(self, unused: Tensor) -> TokenUse:
        """Return the use in texts that have none of some tokens, named by a boolean for each."""
        frequency = self.frequency.masked_fill(unused, 0)
        return TokenUse(frequency / frequency.sum(), self.first)


def token_stats(use: TokenUse, tokenizer: TokenizerFile, needed: frozenset[int], length: int) -> Stats:
    """Return `token_cost`, in nats per calibration sample, as gate gradients count.

    Args:
        needed: ids that never go.
        length: tokens that a sample predicts.
    """
    return Stats({"token_cost": {VOCABULARY: length * removal_costs(use, tokenizer, needed)}})


@torch.inference_mode()
def use_by_model(
    model: nn.Module, inputs: Inputs, tokenizer: TokenizerFile, tick: Tick = lambda done: None
) -> TokenUse:
    """Return how a model that writes text uses its vocabulary when it goes on from `inputs`.

    Frequencies are means of its own probabilities, so that they say something of every token: the mean over
    contexts has the expectation of a count, and less variance (Rao and Blackwell). A small part is left to
    what the tokenizer was trained on.
    """
    network: Any = model
    rows = len(network.get_input_embeddings().weight)
    device = next(model.parameters()).device
    first = torch.arange(rows, device=device)
    for number, pieces in tokenizer.pieces.items():
        first[number] = pieces[0]
    mass, excess = torch.zeros(2, rows, dtype=torch.float64, device=device)
    for batch in batches_of(inputs):
        for logits in network(**batch).logits:
            logs = logits.float().log_softmax(-1)
            likely = logs.exp()
            mass += likely.sum(0)
            excess += (likely * (logs - logs[:, first]).clamp(min=0)).sum(0)
            tick(1)
    expected = (mass / mass.sum()).cpu()
    return TokenUse(with_prior(expected), (excess / mass.clamp(min=1e-300)).cpu())


def use_by_number(rows: int, ids: Tensor | None) -> TokenUse:
    """Return how a vocabulary is used in a text, or by the numbers alone.

    Args:
        ids: the text's tokens; None where there is no text.
    """
    counts = torch.zeros(rows) if ids is None else torch.bincount(ids, minlength=rows)
    return TokenUse(
        with_prior(counts.double() / max(1, float(counts.sum()))), torch.zeros_like(counts).double()
    )


def with_prior(frequency: Tensor) -> Tensor:
    """Return frequencies mixed with Zipf's law: frequent tokens have low numbers in most vocabularies."""
    prior = 1 / (torch.arange(len(frequency), dtype=torch.float64) + FLAT)
    return (1 - PRIOR) * frequency + PRIOR * prior / prior.sum()


def removal_costs(use: TokenUse, tokenizer: TokenizerFile, needed: frozenset[int]) -> Tensor:
    """Return what every token adds to the cost when the cheapest go first, in nats per token of text.

    A token that goes is written by its pieces from then on, which makes these more frequent; where tokens
    are built from pieces, a piece goes after all that are built from it. Costs rise strictly in the order of
    removal, and those of `needed` are infinite, so that the best of any number are complete.
    """
    rows, pieces = len(use.frequency), tokenizer.pieces
    frequency, first = use.frequency.tolist(), use.first.tolist()
    surprise = [-math.log(max(f, 1e-12)) for f in frequency]

    def cost(number: int) -> float:
        rest = sum(surprise[piece] for piece in pieces[number][1:])
        return float(frequency[number] * (first[number] + rest))

    users = _users(pieces) if tokenizer.model.builds else Counter[int]()
    costs = torch.full((rows,), math.inf, dtype=torch.float64)
    unused = [number for number in range(rows) if number not in tokenizer.tokens and number not in needed]
    costs[unused] = torch.linspace(-1e-9, 0, len(unused) + 1, dtype=torch.float64)[:-1].flip(0)
    free = [number for number in pieces if number not in needed]
    waiting = [(cost(number), -number) for number in free if not users[number]]
    heapq.heapify(waiting)
    last = 0.0
    while waiting:
        known, number = heapq.heappop(waiting)
        number = -number
        if (now := cost(number)) > known:  # What was built from it has made it more frequent since.
            heapq.heappush(waiting, (now, -number))
            continue
        costs[number] = last = max(math.nextafter(last, math.inf), now)
        for piece in pieces[number]:
            frequency[piece] += frequency[number]
            if tokenizer.model.builds:
                users[piece] -= 1
                if not users[piece] and piece not in needed and piece in pieces:
                    heapq.heappush(waiting, (cost(piece), -piece))
    return costs


def _users(pieces: Mapping[int, tuple[int, ...]]) -> Counter[int]:
    """Count the tokens that are built from each one."""
    return Counter(piece for parts in pieces.values() for piece in parts)
