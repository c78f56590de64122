"""The texts a cut language model learns from, packed into windows of equal length."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.agents.recovery.documents import documents
from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.checkpoint.tokens import token_ids
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.safetensors_file import tensor_bytes
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import Probe, Tick, start_token
from prunepolicy.pruning.statistics.written_texts import Writing, written_texts

BLOCK = 32
"""Texts that the model writes at a time."""
HELD_OUT_EVERY = 4
"""Of the first texts that the model writes, one in so many is held out."""
HELD_OUT = 8
"""Windows of a file that are held out, at most."""
MOST_TOKENS = 1 << 26
"""Of a file that are read."""


@dataclass(frozen=True)
class LearningTexts:
    """Windows in a fixed order, as many as are asked for; what the model writes itself has no end.

    Attributes:
        probe: what statistics were collected on; the model's own writing in it is learned from first.
        length: tokens per window.
        written: whether the model writes texts.
        packed: windows of the user's file, without those that are held out; shape (windows, length).
        packed_held_out: windows of the user's file that are held out.
    """

    session: ModelSession
    probe: Probe
    length: int
    written: bool
    packed: Tensor
    packed_held_out: Tensor

    @classmethod
    def of(cls, session: ModelSession, probe: Probe, length: int, on: Path | None = None) -> LearningTexts:
        """Return texts of the kinds that a probe has, or of the user's file alone.

        Raises:
            UsageError: when the file can't be read, has no text, or less than two windows of it.
        """
        length = min(length, context_of(session.model))
        file = on or probe.file
        written = on is None and (probe.file is None or probe.written is not None)
        packed = torch.empty((0, length), dtype=torch.long)
        if file is not None:
            texts = documents(file, session.tokenizer)
            packed = pack(texts, session.model, session.tokenizer, length, probe.seed)
            if len(packed) < 2:
                raise UsageError(
                    f"{file} is too short to learn from: at least two windows of {length} tokens are needed."
                )
        back = min(HELD_OUT, len(packed) // 2)
        return cls(session, probe, length, written, packed[back:], packed[:back])

    @property
    def fingerprint(self) -> str:
        """Hash of what isn't determined by the model and the probe."""
        return hashlib.sha256(tensor_bytes(self.packed)).hexdigest()[:16]

    def held_out(self, tick: Tick = lambda done: None) -> Tensor:
        """Return the windows that are never learned from."""
        own = [self._block(0, tick)[::HELD_OUT_EVERY]] if self.written else []
        return torch.cat([self.packed_held_out, *own])

    def first(self, number: int, tick: Tick = lambda done: None) -> Tensor:
        """Return so many windows, or all where there are fewer; half from each source where there are two."""
        if not self.written:
            return self.packed[:number]
        file = self.packed[: number // 2]
        own = self._own(number - len(file), tick)
        order = torch.randperm(number, generator=torch.Generator().manual_seed(self.probe.seed))
        return torch.cat([file, own])[order] if len(file) else own

    def _own(self, number: int, tick: Tick) -> Tensor:
        """Return so many windows of the model's own writing."""
        found = self._probed()
        for block in count():
            if len(found) >= number:
                return found[:number]
            fresh = self._block(block, tick)
            found = torch.cat([found, _without(fresh, HELD_OUT_EVERY) if block == 0 else fresh])
        raise AssertionError  # count() has no end

    def _probed(self) -> Tensor:
        """Return the model's own writing in the probe, packed."""
        if self.probe.written is None:
            return self.packed[:0]
        own = self.session.probe(replace(self.probe, source=self.probe.written))
        tokens = own["input_ids"].cpu().flatten()
        return tokens[: len(tokens) // self.length * self.length].view(-1, self.length)

    def _block(self, block: int, tick: Tick) -> Tensor:
        """Return texts of many kinds that the model writes."""
        session = self.session
        writing = Writing(BLOCK, self.length, seed=self.probe.seed + 1 + block, first=block * BLOCK)
        return session.once(
            writing,
            lambda: written_texts(
                writing, session.model, session.tokenizer_if_any, session.checkpoint.fingerprint, tick
            ),
        )


def pack(texts: Sequence[str], model: nn.Module, tokenizer: Any, length: int, seed: int) -> Tensor:
    """Return documents one after the other, in a seeded order, cut into windows in another such order.

    Every document follows the token that starts a text. Shape (windows, length).
    """
    generator = torch.Generator().manual_seed(seed)
    start, parts, total = torch.tensor([start_token(model, tokenizer)]), list[Tensor](), 0
    for number in torch.randperm(len(texts), generator=generator).tolist():
        parts += [start, token_ids(model, tokenizer, texts[number])]
        total += 1 + len(parts[-1])
        if total >= MOST_TOKENS:
            break
    tokens = torch.cat(parts)
    windows = tokens[: len(tokens) // length * length].view(-1, length)
    return windows[torch.randperm(len(windows), generator=generator)]


def _without(rows: Tensor, every: int) -> Tensor:
    """Return the rows that `rows[::every]` leaves."""
    return rows[torch.arange(len(rows)) % every != 0]
