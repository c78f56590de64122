"""Texts of many kinds without a data set: a model writes them itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.checkpoint.tokens import token_ids
from prunepolicy.pruning.errors import UsageError, did_you_mean
from prunepolicy.pruning.statistics.openings import OPENINGS, RANDOM, REQUESTS
from prunepolicy.pruning.statistics.probe import start_token
from prunepolicy.pruning.statistics.writing import Tick, continued, written_once

CHAT = "chat"
"""The kind whose texts begin with a request in the tokenizer's chat template."""
KINDS = (*OPENINGS, CHAT)


@dataclass(frozen=True)
class Writing:
    """Which texts a model is to write.

    Attributes:
        texts: how many; kinds take turns, and so do the openings of each.
        length: tokens of each, its opening included.
        temperature: of the sampling.
        kinds: of text; those with words need a tokenizer.
        seed: of the sampling.
        first: number of the first text, by which its kind and opening take turns.
    """

    texts: int = 256
    length: int = 512
    temperature: float = 0.9
    kinds: tuple[str, ...] = KINDS
    seed: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        if self.texts < 1 or self.length < 2 or self.temperature <= 0 or not self.kinds:
            raise UsageError("Written texts need a number, at least two tokens, a temperature and a kind.")
        for kind in self.kinds:
            if kind not in KINDS:
                raise UsageError(f"Unknown kind of text {kind!r:.80}.{did_you_mean(kind, KINDS)}")


def written_texts(
    writing: Writing, model: nn.Module, tokenizer: Any, fingerprint: str, tick: Tick = lambda done: None
) -> Tensor:
    """Return what the model writes, shape (texts, length); cached by the checkpoint's fingerprint.

    Args:
        tokenizer: None for a model without one, every text of which begins with a random token.
        fingerprint: empty to cache nothing.
        tick: hears of tokens that the model writes.
    """
    start, dtype = start_token(model, tokenizer), str(next(model.parameters()).dtype)
    length = min(writing.length, context_of(model))
    generator = torch.Generator().manual_seed(writing.seed)
    endless = _beginnings(writing, model, tokenizer, start, generator)
    beginnings = list(islice(endless, writing.first, writing.first + writing.texts))
    begun = [row[: length // 2] for row in beginnings]
    key = [fingerprint, asdict(writing), dtype, [row.tolist() for row in begun]] if fingerprint else None
    return written_once(key, lambda: continued(model, begun, length, generator, writing.temperature, tick))


def _beginnings(
    writing: Writing, model: nn.Module, tokenizer: Any, start: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the first tokens of one text after the other, without end."""
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    for turn in count():
        for kind in writing.kinds:
            if kind == RANDOM or tokenizer is None:
                yield torch.randint(embedding.num_embeddings, (1,), generator=generator)
            elif kind == CHAT:
                yield asked(model, tokenizer, REQUESTS[turn % len(REQUESTS)], start)
            else:
                openings = OPENINGS[kind]
                opening = token_ids(model, tokenizer, openings[turn % len(openings)])
                yield torch.cat([torch.tensor([start]), opening])


def asked(model: nn.Module, tokenizer: Any, request: str, start: int) -> Tensor:
    """Return a request as the model's chat template words it, shape (tokens,); plain text without one."""
    if not getattr(tokenizer, "chat_template", None):
        return torch.cat([torch.tensor([start]), token_ids(model, tokenizer, f"Q: {request}\nA:")])
    messages = [{"role": "user", "content": request}]
    worded = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return token_ids(model, tokenizer, worded)
