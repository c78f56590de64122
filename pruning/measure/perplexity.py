"""How well a model still predicts text, and how close its outputs stay to another model's."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.checkpoint.tokens import start_of_text, token_ids
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.progress import Advance, ProgressReporter
from prunepolicy.pruning.measure.intervals import Interval, mean_interval
from prunepolicy.pruning.proof.answers import answer_of

WINDOW = 512
"""Tokens that a model sees at once while it is scored, unless its context is shorter."""


@dataclass(frozen=True)
class TextScore:
    """How well a causal model predicts a text.

    Attributes:
        nll: mean negative log-likelihood per scored token, in nats.
        perplexity: its exponential.
        tokens: how many tokens were scored.
        window: tokens the model saw at once, the start token included.
        bits_per_byte: the same over the text's bytes, in bits, which vocabularies share; None where tokens
            are what counts.
    """

    nll: float
    perplexity: float
    tokens: int
    window: int
    bits_per_byte: float | None = None

    def to_json(self) -> str:
        """Return the score as JSON text."""
        return json.dumps(vars(self), sort_keys=True)


@dataclass(frozen=True)
class WindowLosses:
    """What a causal model loses on every window of a text; windows of one text can be compared in pairs.

    Attributes:
        losses: summed negative log-likelihood in nats, shape (windows,).
        tokens: how many tokens were scored, shape (windows,).
        window: tokens the model saw at once, the start token included.
        sizes: bytes of text of every window, shape (windows,), where models of two vocabularies read it.
    """

    losses: NDArray[np.float64]
    tokens: NDArray[np.int64]
    window: int
    sizes: NDArray[np.int64] | None = None

    @property
    def score(self) -> TextScore:
        """The score over all windows."""
        count = int(self.tokens.sum())
        nll = float(self.losses.sum()) / count
        bits = None if self.sizes is None else float(self.losses.sum() / self.sizes.sum()) / math.log(2)
        return TextScore(nll, math.exp(nll) if nll < 700 else math.inf, count, self.window, bits)

    def change_from(self, before: WindowLosses) -> Interval:
        """Return the interval of the change on the same text, in nats per token (or per byte, with sizes)."""
        return mean_interval(self.losses - before.losses, self.tokens if self.sizes is None else self.sizes)


@dataclass(frozen=True)
class Fidelity:
    """How close one model's outputs are to another's, averaged over positions.

    Attributes:
        cosine: cosine of the two output vectors.
        kl: divergence of the second model's distribution from the first's, in nats; None without
            logits.
        agreement: share of positions where both name the same class or token; None without logits.
    """

    cosine: float
    kl: float | None
    agreement: float | None


def score_text(
    model: nn.Module,
    tokenizer: Any,
    text: str,
    window: int | None = None,
    batch: int = 4,
    limit: int | None = None,
) -> TextScore:
    """Tokenise `text` and return its perplexity; see `window_losses` for the protocol.

    Args:
        limit: score this many tokens at most, from the beginning.
    """
    return text_losses(model, tokenizer, text, window, batch, limit).score


def text_losses(
    model: nn.Module,
    tokenizer: Any,
    text: str,
    window: int | None = None,
    batch: int = 4,
    limit: int | None = None,
    progress: ProgressReporter | None = None,
) -> WindowLosses:
    """Tokenise `text` and return what the model loses on it, window by window."""
    tokens = token_ids(model, tokenizer, text)[:limit]
    with (progress or ProgressReporter()).step("perplexity", len(tokens)) as tick:
        return window_losses(model, tokens, window, batch, start_of_text(model, tokenizer), tick)


def piece_losses(model: nn.Module, tokenizer: Any, pieces: Sequence[str]) -> WindowLosses:
    """Score pieces of text one by one, so that models with different vocabularies can be compared in pairs.

    A piece that is longer than the model's context is read in several windows.
    """
    start, found, context = start_of_text(model, tokenizer), list[WindowLosses](), context_of(model)
    for piece in pieces:
        tokens = token_ids(model, tokenizer, piece)
        window = min(context, max(2, len(tokens) + (start is not None)))
        found.append(window_losses(model, tokens, window, bos=start))
    return WindowLosses(
        np.array([losses.losses.sum() for losses in found]),
        np.array([losses.tokens.sum() for losses in found]),
        max(losses.window for losses in found),
        np.array([len(piece.encode()) for piece in pieces]),
    )


def perplexity(
    model: nn.Module, tokens: Tensor, window: int | None = None, batch: int = 4, bos: int | None = None
) -> TextScore:
    """Return the score of `tokens`; see `window_losses` for the protocol."""
    return window_losses(model, tokens, window, batch, bos).score


def window_losses(
    model: nn.Module,
    tokens: Tensor,
    window: int | None = None,
    batch: int = 4,
    bos: int | None = None,
    tick: Advance = lambda done: None,
) -> WindowLosses:
    """Score `tokens`, shape (length,), in windows that don't overlap.

    Every window starts with the start token `bos` where the tokenizer has one, so that each token
    is scored exactly once; without one, the first token of a window is context only. A shorter last
    window is scored too. Log-likelihoods are summed in float32 whatever the model computes in.

    Args:
        window: tokens the model sees at once, `bos` included; None means 512, or the model's whole
            context where that is shorter.
        batch: windows in one forward pass.
        tick: called with the number of tokens that were just scored.

    Raises:
        UsageError: when there is nothing to score or the window is longer than the model's context.
        PrunePolicyError: when the model's output is not finite.
    """
    window = min(WINDOW, context_of(model)) if window is None else window
    _check_window(model, window)
    fresh = window - (bos is not None)
    if len(tokens) + (bos is not None) < 2:
        raise UsageError(f"The text has {len(tokens)} tokens; there is nothing to predict in it.")
    losses: list[float] = []
    scored: list[int] = []
    for rows in _batches(tokens, fresh, batch):
        if bos is not None:
            rows = functional.pad(rows, (1, 0), value=bos)
        if rows.shape[1] > 1:
            losses += _summed_nll(model, rows)
            scored += len(rows) * [rows.shape[1] - 1]
            tick(rows.numel())
    if not np.isfinite(losses).all():
        raise PrunePolicyError("The model's output is not finite on this text; its weights are damaged.")
    return WindowLosses(np.array(losses), np.array(scored), window)


def _check_window(model: nn.Module, window: int) -> None:
    longest = context_of(model)
    if not 2 <= window <= longest:
        raise UsageError(
            f"The window must be between 2 and the model's context of {longest} tokens; got {window}."
        )


def _batches(tokens: Tensor, length: int, batch: int) -> list[Tensor]:
    """Split into batches of full windows, then the rest as a batch of one."""
    full = len(tokens) // length * length
    batches = list(torch.split(tokens[:full].view(-1, length), batch)) if full else []
    return [*batches, tokens[None, full:]] if full < len(tokens) else batches


@torch.inference_mode()
def _summed_nll(model: nn.Module, rows: Tensor) -> list[float]:
    """Return the sum over every row's tokens."""
    rows = rows.to(next(model.parameters()).device)
    logits = model(input_ids=rows).logits
    # Row by row: a float32 copy of a whole batch's logits would be the largest tensor of the run.
    losses = [
        functional.cross_entropy(row[:-1].float(), target[1:], reduction="sum")
        for row, target in zip(logits, rows, strict=True)
    ]
    return torch.stack(losses).double().tolist()


def fidelity(dense: Any, pruned: Any) -> Fidelity:
    """Compare two models' outputs on the same inputs, for models that don't write text.

    Uses logits where they have some, the last hidden state otherwise.
    """
    (first, are_logits), (second, _) = answer_of(dense), answer_of(pruned)
    if not are_logits:
        return Fidelity(_cosine(first, second), None, None)
    first, second = first.float(), second.float()
    log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
    divergence = functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean()
    agreement = (first.argmax(-1) == second.argmax(-1)).float().mean()
    return Fidelity(_cosine(first, second), float(divergence), float(agreement))


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(functional.cosine_similarity(first.float(), second.float(), dim=-1).mean())
