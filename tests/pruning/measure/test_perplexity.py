"""Perplexity agrees with sums done by hand; fidelity has the values it must have."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.measure.perplexity import fidelity, perplexity

Make = Callable[..., Checkpoint]


@pytest.fixture
def model(tiny_checkpoint: Make) -> nn.Module:
    checkpoint = tiny_checkpoint()
    return load_model(checkpoint.folder, checkpoint.adapter, torch.float32, torch.device("cpu"))


@torch.no_grad()
def nll_by_hand(model: nn.Module, windows: list[list[int]]) -> tuple[float, int]:
    """One window, one position at a time."""
    total, count = 0.0, 0
    for window in windows:
        for place in range(1, len(window)):
            logits = model(input_ids=torch.tensor([window[:place]])).logits[0, -1]
            total -= float(logits.log_softmax(-1)[window[place]])
            count += 1
    return total / count, count


def test_with_a_start_token_every_token_is_scored_once(model: nn.Module) -> None:
    tokens = torch.randint(3, 64, (19,))
    score = perplexity(model, tokens, window=8, batch=2, bos=1)
    nll, count = nll_by_hand(model, [[1, *part] for part in map(list, tokens.split(7))])
    assert (score.tokens, count) == (19, 19)
    assert score.nll == pytest.approx(nll, rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(nll), rel=1e-5)


def test_without_one_each_window_gives_up_its_first_token(model: nn.Module) -> None:
    tokens = torch.randint(3, 64, (17,))
    score = perplexity(model, tokens, window=8)
    nll, count = nll_by_hand(model, [part.tolist() for part in tokens.split(8)])
    assert score.tokens == count == 14
    assert score.nll == pytest.approx(nll, rel=1e-5)


def test_the_batch_size_changes_nothing(model: nn.Module) -> None:
    tokens = torch.randint(3, 64, (50,))
    scores = [perplexity(model, tokens, window=8, batch=batch, bos=1).nll for batch in (1, 3, 64)]
    assert scores == pytest.approx([scores[0]] * 3, rel=1e-6)


@pytest.mark.parametrize(("count", "bos"), [(0, None), (1, None), (0, 1)])
def test_too_little_text_is_refused(model: nn.Module, count: int, bos: int | None) -> None:
    with pytest.raises(UsageError, match="nothing to predict"):
        perplexity(model, torch.zeros(count, dtype=torch.long), window=8, bos=bos)


def test_a_window_beyond_the_context_is_refused(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="context of 64 tokens; got 65"):
        perplexity(model, torch.arange(64), window=65)


def test_damaged_weights_are_no_score(model: nn.Module) -> None:
    with torch.no_grad():
        model.get_submodule("model.norm").get_parameter("weight").fill_(math.nan)
    with pytest.raises(PrunePolicyError, match="not finite"):
        perplexity(model, torch.arange(20), window=8)


def test_fidelity_of_equal_and_of_opposite_outputs() -> None:
    logits = torch.randn(3, 5, 7)
    same = fidelity({"logits": logits}, {"logits": logits})
    assert same.cosine == pytest.approx(1)
    assert same.kl == pytest.approx(0, abs=1e-6)
    assert same.agreement == 1
    opposite = fidelity({"logits": logits}, {"logits": -logits})
    assert opposite.cosine == pytest.approx(-1)
    assert opposite.agreement == 0
    p, q = logits.softmax(-1), (-logits).softmax(-1)
    assert opposite.kl == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-5)


def test_fidelity_without_logits_is_the_cosine_alone() -> None:
    hidden = {"last_hidden_state": torch.randn(2, 4, 8)}
    result = fidelity(hidden, hidden)
    assert (result.kl, result.agreement) == (None, None)
    assert result.cosine == pytest.approx(1)
