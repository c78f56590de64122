"""What an exported file predicts beside what the model predicts, token by token."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.console import Console

ROWS, LENGTH = 4, 16
"""Sequences of random tokens, and the tokens of each: no text decides what is compared."""
TIE = 0.05
"""Nats by which the model's own best token may beat the file's: half precision rounds so much."""

NextLogits = Callable[[list[int]], NDArray[np.float32]]
"""From the ids of a sequence to the logits after each of its tokens, shape (tokens, vocabulary)."""


@dataclass(frozen=True)
class TokenAgreement:
    """How far an exported file predicts the same next tokens.

    Attributes:
        reader: the program that ran the file.
        agreeing: positions at which its best token is the model's, or as good to within `TIE` nats.
        positions: that were compared.
    """

    reader: str
    agreeing: int
    positions: int

    @property
    def ok(self) -> bool:
        """Whether all positions agree."""
        return self.agreeing == self.positions

    @property
    def sentence(self) -> str:
        """What was seen."""
        return f"{self.reader} predicts the same next token at {self.agreeing} of {self.positions} positions."


@dataclass(frozen=True)
class Export:
    """A result in another format.

    Attributes:
        form: `gguf` or `onnx`.
        files: that were written, the compared one first.
        comparison: None where nothing here can run the file; `unproven` says what is missing.
    """

    form: str
    files: tuple[str, ...]
    comparison: TokenAgreement | None
    unproven: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print files, and what their comparison with the model came to."""
        for file in self.files:
            console.print(f"{self.form}: {file}, {Path(file).stat().st_size:,} bytes", soft_wrap=True)
        console.print(self.comparison.sentence if self.comparison else self.unproven, soft_wrap=True)
        for note in self.notes:
            console.print(note, soft_wrap=True)


def compared(folder: Path, reader: str, next_logits: NextLogits) -> TokenAgreement:
    """Let both read the same random tokens, and count the positions at which the next one is the same.

    Raises:
        PrunePolicyError: when the file's best tokens aren't the model's.
    """
    checkpoint = Checkpoint.open(folder)
    model = checkpoint.adapter.load(folder, torch.float32)
    vocabulary = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    length = min(LENGTH, context_of(model))
    rows = torch.randint(vocabulary, (ROWS, length), generator=generator)
    with torch.inference_mode():
        ours = model(input_ids=rows).logits.float().log_softmax(-1)
    agreeing = 0
    for row, own in zip(rows.tolist(), ours, strict=True):
        theirs = torch.from_numpy(np.asarray(next_logits(row), dtype=np.float32))
        if theirs.shape[0] != len(row) or theirs.shape[1] < own.shape[1]:
            shapes = f"{tuple(theirs.shape)}, not {tuple(own.shape)}"
            raise PrunePolicyError(f"{reader} answers in the shape {shapes}.")
        best = theirs[:, : own.shape[1]].argmax(-1)
        gap = own.max(-1).values - own.gather(1, best[:, None])[:, 0]
        agreeing += int((gap <= TIE).sum())
    found = TokenAgreement(reader, agreeing, ROWS * length)
    if not found.ok:
        raise PrunePolicyError(f"The exported file isn't the model: {found.sentence}")
    return found
