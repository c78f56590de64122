"""What the quality benchmarks share: the texts and questions they score, and results row by row.

Nothing is chosen on these texts and questions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.measure.multiple_choice import ChoiceItem, read_choices, score_choices
from prunepolicy.pruning.measure.perplexity import score_text

TOKENS = 4096
SELF, VARIED, OTHER, SCORED = "self", "varied", "other pages", "scored pages"
"""Texts that choices are made on: written by the dense model in two ways, and two parts of the prose."""
PIQA, BLIMP_STEP = 300, 3
"""Questions of PIQA, and the step between BLiMP's sentences, whose paradigms lie in blocks of 15."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """The texts by name, and the questions."""

    texts: dict[str, str]
    piqa: Sequence[ChoiceItem]
    blimp: Sequence[ChoiceItem]

    @classmethod
    def read(cls, data: Path) -> Self:
        """Read prose and questions from a folder; the code is a module of Python's own."""
        texts = {
            "prose": data.joinpath("prose.txt").read_text(encoding="utf-8"),
            "code": Path(argparse.__file__).read_text(encoding="utf-8"),
        }
        piqa, blimp = (read_choices(data / f"{name}.jsonl") for name in ("piqa", "blimp"))
        return cls(texts, piqa[:PIQA], blimp[::BLIMP_STEP])

    def pages(self, tokenizer: Any) -> dict[str, list[int]]:
        """Return the tokens of the prose that is scored, and of the rest, which nothing is scored on."""
        tokens = tokenizer(self.texts["prose"], add_special_tokens=False)["input_ids"]
        return {OTHER: tokens[TOKENS:], SCORED: tokens[:TOKENS]}

    def nll(self, model: nn.Module, tokenizer: Any, names: Iterable[str] = ("prose", "code")) -> Row:
        """Return the mean negative log-likelihood of each named text, nats per token."""
        return {name: score_text(model, tokenizer, self.texts[name], limit=TOKENS).nll for name in names}

    def answers(self, model: nn.Module, tokenizer: Any) -> Row:
        """Return the shares of questions answered right."""
        piqa = score_choices(model, tokenizer, self.piqa)
        blimp = score_choices(model, tokenizer, self.blimp)
        return {"piqa_acc": piqa.acc, "piqa_acc_norm": piqa.acc_norm, "blimp_acc": blimp.acc}

    def described(self, dtype: torch.dtype) -> Row:
        """Return what the numbers depend on."""
        return {
            "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
            "machine": device_name(torch.device("cpu")),
            "threads": torch.get_num_threads(),
            "dtype": str(dtype).removeprefix("torch."),
            "versions": versions("prunepolicy", "torch", "transformers"),
            "texts": f"first {TOKENS} tokens of each, windows of 512",
            "questions": {"piqa": len(self.piqa), "blimp": len(self.blimp)},
        }


@dataclass
class Results:
    """Rows in a JSON file, written one by one, so that a run that was stopped continues.

    Attributes:
        key: the columns that tell rows apart.
        described: what the numbers depend on, written beside them.
    """

    file: Path
    key: tuple[str, ...]
    described: Row
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.file.is_file():
            self.rows = json.loads(self.file.read_text(encoding="utf-8"))["rows"]

    def __contains__(self, row: Row) -> bool:
        return self._place(row) in {self._place(known) for known in self.rows}

    def add(self, row: Row) -> None:
        """Print a row and write everything."""
        print(row, flush=True)
        self.rows.append(row)
        write_text(self.file, json.dumps(self.described | {"rows": self.rows}, indent=1) + "\n")

    def _place(self, row: Row) -> tuple[Any, ...]:
        return tuple(row.get(name) for name in self.key)
