"""A tokenizer that knows more than the model is named before the model reads what it doesn't know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.tokens import token_ids
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.measure.multiple_choice import log_likelihoods
from prunepolicy.pruning.measure.perplexity import score_text
from prunepolicy.pruning.statistics.probe import Probe, start_token, text_windows

SENTENCE = r"The tokenizer in .* knows '<tool>' as token 258, but the model's vocabulary ends at 257"


@pytest.fixture
def model() -> nn.Module:
    return adapter_for({"model_type": "llama"}).build(
        adapter_for({"model_type": "llama"}).tiny() | {"vocab_size": 258}
    )


@pytest.fixture
def longer(byte_tokenizer: Any) -> Any:
    byte_tokenizer.add_tokens(["<tool>"])
    return byte_tokenizer


def test_texts_of_known_tokens_are_read(model: nn.Module, longer: Any) -> None:
    assert longer.decode(token_ids(model, longer, "hello")) == "hello"


def test_every_reader_of_texts_says_which_token_is_unknown(
    model: nn.Module, longer: Any, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("call a <tool> now " * 9)
    with pytest.raises(PrunePolicyError, match=SENTENCE):
        score_text(model, longer, text.read_text())
    with pytest.raises(PrunePolicyError, match=SENTENCE):
        text_windows(text, model, longer, Probe(length=8))
    with pytest.raises(PrunePolicyError, match=SENTENCE):
        log_likelihoods(model, longer, [("call a", " <tool>")])


def test_a_start_token_can_be_unknown_too(model: nn.Module, longer: Any) -> None:
    longer.bos_token = "<tool>"
    with pytest.raises(PrunePolicyError, match=SENTENCE):
        start_token(model, longer)
    with pytest.raises(PrunePolicyError, match=SENTENCE):
        score_text(model, longer, "hello")
