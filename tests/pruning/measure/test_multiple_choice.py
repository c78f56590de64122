"""Multiple choice agrees with lm-evaluation-harness, request by request and as a score."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.measure.multiple_choice import (
    ChoiceItem,
    log_likelihoods,
    read_choices,
    score_choices,
)

Make = Callable[..., Checkpoint]
PAIRS = [
    ("Question: How?\nAnswer:", " Like this."),
    ("Question: How?\nAnswer:", " No."),
    ("", " Whole sentences compete."),
    ("trailing spaces  ", "move on"),
    ("too long for this model " * 8, " so its beginning goes"),
]


@pytest.fixture
def model(tiny_checkpoint: Make) -> nn.Module:
    checkpoint = tiny_checkpoint(vocab_size=300)
    return load_model(checkpoint.folder, checkpoint.adapter, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("batch", [1, 3])
def test_agrees_with_the_harness(model: nn.Module, byte_tokenizer: Any, batch: int) -> None:
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    harness = huggingface.HFLM(pretrained=model, tokenizer=byte_tokenizer, batch_size=1)
    requests = [instance("loglikelihood", {}, pair, index) for index, pair in enumerate(PAIRS)]
    theirs = [value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)]
    assert log_likelihoods(model, byte_tokenizer, PAIRS, batch) == pytest.approx(theirs, abs=1e-4)


def test_scores_follow_the_likelihoods(model: nn.Module, byte_tokenizer: Any) -> None:
    choices = ("a", "a much longer answer than the other")
    values = log_likelihoods(model, byte_tokenizer, [("Q:", f" {choice}") for choice in choices])
    likeliest = max((0, 1), key=lambda i: values[i])
    per_character = max((0, 1), key=lambda i: values[i] / len(choices[i]))
    items = [ChoiceItem("Q:", choices, gold) for gold in (0, 1, 1)]
    score = score_choices(model, byte_tokenizer, items)
    assert score.acc == pytest.approx((1, 2)[likeliest] / 3)
    assert score.acc_norm == pytest.approx((1, 2)[per_character] / 3)
    assert score.stderr == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / 2))
    assert score.n == 3


def test_reads_both_formats(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    lines: list[dict[str, object]] = [
        {"goal": "Open it", "sol1": "Pull.", "sol2": "Push.", "label": 1},
        {"good": "He goes.", "bad": "He go."},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    first, second = read_choices(file)
    assert first == ChoiceItem("Question: Open it\nAnswer:", ("Pull.", "Push."), 1)
    assert second == ChoiceItem("", ("He goes.", "He go."), 0)
    assert read_choices(file, limit=1) == [first]


@pytest.mark.parametrize(
    "line", ["no json", "[]", '{"goal": "x"}', '{"goal": "", "sol1": "", "sol2": "", "label": 2}']
)
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text('{"good": "He goes.", "bad": "He go."}\n' + line)
    with pytest.raises(UsageError, match=r"items\.jsonl, line 2"):
        read_choices(file)


def test_no_questions_and_damaged_weights_are_no_score(model: nn.Module, byte_tokenizer: Any) -> None:
    with pytest.raises(UsageError, match="no questions"):
        score_choices(model, byte_tokenizer, [])
    with torch.no_grad():
        model.get_submodule("model.norm").get_parameter("weight").fill_(math.nan)
    with pytest.raises(PrunePolicyError, match="not finite"):
        log_likelihoods(model, byte_tokenizer, PAIRS[:1])
