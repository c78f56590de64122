"""Multiple choice by log-likelihood, scored as lm-evaluation-harness scores PIQA and BLiMP."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from prunepolicy.pruning.checkpoint.context import UNLIMITED, context_of
from prunepolicy.pruning.checkpoint.tokens import check_known
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.progress import Advance, ProgressReporter
from prunepolicy.pruning.io.text_file import read_text

UNLIMITED_READS = 2048
"""Tokens that a model without a limit reads."""


@dataclass(frozen=True)
class ChoiceItem:
    """One question.

    Attributes:
        context: text before the answer; empty where only whole sentences compete.
        choices: the answers, without the space that joins them to the context.
        gold: index of the right one.
    """

    context: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class ChoiceScore:
    """Share of questions answered right.

    Attributes:
        acc: accuracy by the highest log-likelihood.
        acc_norm: the same with log-likelihoods per character, so that short answers win nothing.
        n: number of questions.
        stderr: standard error of `acc`.
        stderr_norm: standard error of `acc_norm`.
    """

    acc: float
    acc_norm: float
    n: int
    stderr: float
    stderr_norm: float

    def to_json(self) -> str:
        """Return the score as JSON text."""
        return json.dumps(vars(self), sort_keys=True)


@dataclass(frozen=True)
class Answers:
    """Which questions are answered right; answers to the same questions can be compared in pairs.

    Attributes:
        right: by log-likelihood, 0 or 1, shape (questions,).
        right_norm: by log-likelihood per character.
    """

    right: NDArray[np.float64]
    right_norm: NDArray[np.float64]

    @property
    def score(self) -> ChoiceScore:
        """The shares of right answers."""
        count, shares = len(self.right), (float(self.right.mean()), float(self.right_norm.mean()))
        return ChoiceScore(*shares, count, *(_standard_error(share, count) for share in shares))


def read_choices(file: Path, limit: int | None = None) -> list[ChoiceItem]:
    """Read PIQA lines (goal, sol1, sol2, label) or BLiMP lines (good, bad), one JSON object each.

    Raises:
        UsageError: when the file can't be read or a line is neither.
    """
    lines = [line for line in read_text(file, "questions in").splitlines() if line.strip()]
    items = []
    for number, line in enumerate(lines[:limit], start=1):
        try:
            items.append(_item(bounded.parsed_json(line)))
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{file.name}, line {number}: expected goal, sol1, sol2 and label, or good and bad."
            ) from error
    return items


def _item(fields: dict[str, Any]) -> ChoiceItem:
    if "good" in fields:
        return ChoiceItem("", (str(fields["good"]), str(fields["bad"])), 0)
    label = int(fields["label"])
    if label not in (0, 1):
        raise ValueError(label)
    choices = (str(fields["sol1"]), str(fields["sol2"]))
    return ChoiceItem(f"Question: {fields['goal']}\nAnswer:", choices, label)


def score_choices(
    model: nn.Module, tokenizer: Any, items: Sequence[ChoiceItem], batch: int = 8
) -> ChoiceScore:
    """Return the shares of right answers; see `answers_to`."""
    return answers_to(model, tokenizer, items, batch).score


def answers_to(
    model: nn.Module,
    tokenizer: Any,
    items: Sequence[ChoiceItem],
    batch: int = 8,
    progress: ProgressReporter | None = None,
) -> Answers:
    """Answer every question with the continuation of highest log-likelihood.

    Raises:
        UsageError: when there are no questions.
        PrunePolicyError: when the model's output is not finite.
    """
    if not items:
        raise UsageError("There are no questions to answer.")
    pairs = [(item.context, f" {choice}") for item in items for choice in item.choices]
    with (progress or ProgressReporter()).step("answer questions", len(pairs)) as tick:
        scores = iter(log_likelihoods(model, tokenizer, pairs, batch, tick))
    right, right_norm = [], []
    for item in items:
        values = np.array([next(scores) for _ in item.choices])
        lengths = np.array([len(choice) for choice in item.choices])
        right.append(int(values.argmax()) == item.gold)
        right_norm.append(int((values / lengths).argmax()) == item.gold)
    return Answers(np.array(right, np.float64), np.array(right_norm, np.float64))


def _standard_error(share: float, n: int) -> float:
    """Standard error of a mean of zeros and ones, from the sample's variance."""
    return math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else math.nan


def log_likelihoods(
    model: nn.Module,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    batch: int = 8,
    tick: Advance = lambda done: None,
) -> list[float]:
    """Return log P(continuation | context) of every pair, in nats.

    A context beyond the model's limit is cut from the left; an empty one becomes the start token.
    """
    encoded = [encode_pair(tokenizer, context, continuation) for context, continuation in pairs]
    check_known(model, tokenizer, (token for pair in encoded for part in pair for token in part))
    longest_first = sorted(range(len(pairs)), key=lambda i: -sum(map(len, encoded[i])))
    results = [0.0] * len(pairs)
    for start in range(0, len(pairs), batch):
        chosen = longest_first[start : start + batch]
        for place, value in zip(chosen, _batch_scores(model, [encoded[i] for i in chosen]), strict=True):
            results[place] = value
        tick(len(chosen))
    if not np.isfinite(results).all():
        raise PrunePolicyError(
            "The model's output is not finite on these questions; its weights are damaged."
        )
    return results


def encode_pair(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Tokenise a context and its continuation together, and return the two parts.

    Spaces at the end of the context move to the continuation, where tokenizers expect them.
    """
    if not context.strip():
        tokens = tokenizer.encode(continuation, add_special_tokens=False)
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return (tokens[:1], tokens[1:]) if tokens[0] == start else ([start], tokens)
    trimmed = context.rstrip()
    whole = tokenizer.encode(context + continuation)
    before = tokenizer.encode(trimmed)
    return before, whole[len(before) :]


@torch.inference_mode()
def _batch_scores(model: nn.Module, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterable[float]:
    limit = context_of(model)
    limit = UNLIMITED_READS if limit == UNLIMITED else limit
    # The last token is predicted, never read; padding on the right changes nothing before it.
    rows = [torch.tensor((context + continuation)[-(limit + 1) :]) for context, continuation in pairs]
    read = pad_sequence([row[:-1] for row in rows], batch_first=True).to(next(model.parameters()).device)
    logits = model(input_ids=read).logits
    for row, row_logits, (_, continuation) in zip(rows, logits, pairs, strict=True):
        yield _continuation_score(row, row_logits, len(continuation))


def _continuation_score(row: Tensor, logits: Tensor, length: int) -> float:
    stop = len(row) - 1
    chosen = logits[stop - length : stop].float().log_softmax(-1)
    return float(chosen.gather(1, row[-length:, None].to(logits.device)).sum())
