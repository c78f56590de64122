"""What a forward pass of a causal model is about to do, from its arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class ModelCall:
    """One forward pass.

    Attributes:
        ids: tokens to read, (batch, length); None where embeddings are given instead.
        real: which positions hold tokens and no padding, bool (batch, length).
        cache: transformers' KV cache; None for a model that is to make one.
        start: positions that the cache holds already.
    """

    ids: Tensor | None
    real: Tensor
    cache: Any
    start: int

    @classmethod
    def of(cls, args: tuple[Any, ...], named: Mapping[str, Any]) -> Self:
        """Read the arguments of a model's `forward`."""
        ids = named.get("input_ids", args[0] if args else None)
        read = named["inputs_embeds"] if ids is None else ids
        cache = named.get("past_key_values")
        start = 0 if cache is None else int(cache.get_seq_length())
        real = real_positions(named.get("attention_mask"), read.shape[0], read.shape[1], start)
        return cls(ids, real.to(read.device), cache, start)

    @property
    def reads(self) -> bool:
        """Whether it reads a prompt, or more of one, rather than writing a token."""
        return self.start == 0 or self.real.shape[1] > 1

    def key_after(self, key: bytes | None) -> bytes | None:
        """Return a hash of what is read after something of hash `key`; None where either isn't known."""
        if self.ids is None or key is None:
            return None
        parts = (
            str(tuple(self.ids.shape)).encode(),
            *(t.cpu().numpy().tobytes() for t in (self.ids, self.real)),
        )
        return hashlib.sha256(b"".join((key, *parts))).digest()


def real_positions(mask: Any, batch: int, length: int, start: int) -> Tensor:
    """Return which of the positions from `start` on hold tokens, bool (batch, length).

    Args:
        mask: as attention takes it: None, (batch, positions), or (batch, 1, queries, positions), where a
            token sees itself and padding doesn't; of models that mix kinds of attention, one per kind.
    """
    if isinstance(mask, Mapping):
        mask = next(iter(mask.values()))
    if mask is None:
        return torch.ones(batch, length, dtype=torch.bool)
    if mask.dim() == 4:
        itself = mask[:, 0].diagonal(start, 1, 2)[:, :length]
        seen: Tensor = itself if itself.dtype == torch.bool else itself == 0
        return seen.expand(batch, length)
    real: Tensor = mask[:, start : start + length].bool()
    return real
