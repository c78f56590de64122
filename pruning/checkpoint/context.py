"""How many tokens a running model can read at once; the only place that knows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "context_length",
)
"""Configuration keys of the longest input, by family."""

POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe", "positions_embed")
"""Last parts of the names of embeddings with a row per position."""

UNLIMITED = sys.maxsize


def context_of(model: nn.Module) -> int:
    """Return how many tokens the model can read at once; `UNLIMITED` where nothing limits it."""
    config: Any = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return min((*_stated(text), *_learned(model)), default=UNLIMITED)


def _stated(config: Any) -> Iterator[int]:
    for key in LIMITS:
        limit = getattr(config, key, None)
        if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
            yield limit


def _learned(model: nn.Module) -> Iterator[int]:
    """Yield what tables of learned positions leave: some count from an offset, or from behind the padding."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in POSITION_TABLES:
            behind_padding = 0 if module.padding_idx is None else module.padding_idx + 1
            offset = getattr(module, "offset", behind_padding)
            yield module.num_embeddings - int(offset)
