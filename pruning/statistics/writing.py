"""Texts that a model goes on with, drawn token by token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.decoding import memory_of
from prunepolicy.pruning.io.cache import cache_folder, mark_used, recalled, remember, trim
from prunepolicy.pruning.io.safetensors_file import (
    NAMES,
    TensorHeader,
    header_bytes,
    read_header,
    tensor_bytes,
)

WRITE_BATCH = 32
MOST_BYTES = 1 << 30
"""Of texts that models wrote, and of their statistics, in the cache; those used longest ago go first."""
Tick = Callable[[int], None]
"""Called with the number of tokens just written."""


def continued(
    model: nn.Module,
    beginnings: Sequence[Tensor],
    length: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    tick: Tick = lambda done: None,
) -> Tensor:
    """Return (texts, length) tokens: beginnings of any length, and what the model goes on with.

    Beginnings are read token by token like what is drawn, so that texts of one batch need no padding.
    End-of-text tokens don't stop a text: the model goes on with its next document.

    Args:
        beginnings: at least one token each.
        temperature: by which logits are divided; 1 is the model's own distribution.
    """
    device = next(model.parameters()).device
    rows = []
    for first in range(0, len(beginnings), WRITE_BATCH):
        batch = beginnings[first : first + WRITE_BATCH]
        tokens = torch.stack([begun[:1] for begun in batch]).to(device)
        memory: dict[str, Any] = {}
        while tokens.shape[1] < length:
            with torch.no_grad():
                unread = tokens[:, -1:] if memory else tokens
                output = model(input_ids=unread, use_cache=True, **memory)
            memory = memory_of(output)
            drawn = _drawn(output.logits, temperature, generator)
            _follow(batch, tokens.shape[1], drawn)
            tokens = torch.cat([tokens, drawn.to(device)], dim=1)
            tick(len(drawn))
        rows.append(tokens.cpu())
    return torch.cat(rows)


def goes_on(
    model: nn.Module, rows: Tensor, count: int, generator: torch.Generator, tick: Tick = lambda done: None
) -> Tensor:
    """Return what the model goes on with after texts of one length, which it reads at once.

    Args:
        rows: shape (texts, tokens); the result has `count` more tokens, from the model's own distribution.
    """
    device = next(model.parameters()).device
    tokens, memory = rows.to(device), dict[str, Any]()
    for _ in range(count):
        with torch.no_grad():
            unread = tokens[:, -1:] if memory else tokens
            output = model(input_ids=unread, use_cache=True, **memory)
        memory = memory_of(output)
        drawn = _drawn(output.logits, 1.0, generator)
        tokens = torch.cat([tokens, drawn.to(device)], dim=1)
        tick(len(drawn))
    return tokens.cpu()


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a next token for every text, shape (texts, 1)."""
    chances = (logits[:, -1].float() / temperature).softmax(-1).cpu()
    return torch.multinomial(chances, 1, generator=generator)


def _follow(batch: Sequence[Tensor], place: int, drawn: Tensor) -> None:
    """Put the beginnings' own tokens in place of those drawn, as long as beginnings last."""
    for row, begun in enumerate(batch):
        if place < len(begun):
            drawn[row] = begun[place]


def written_once(key: Sequence[object] | None, write: Callable[[], Tensor]) -> Tensor:
    """Return the tokens that `write` returned when some run first asked for `key`, from the cache.

    Args:
        key: all that the tokens depend on, as JSON has it; None keeps nothing.
    """
    if key is None:
        return write()
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    file = cache_folder() / "probes" / f"{name}.safetensors"
    tokens = recalled(file, lambda file: read_header(file)[0].read())
    if tokens is not None:
        mark_used(file)
        return tokens
    tokens = write()
    header = header_bytes([TensorHeader("tokens", NAMES[tokens.dtype], tuple(tokens.shape))])
    remember(file, header + bytes(tensor_bytes(tokens)))
    trim(file.parent, MOST_BYTES)
    return tokens
