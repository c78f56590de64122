"""What tokens are worth, and in which order they go."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import models

from prunepolicy.pruning.statistics.token_costs import (
    TokenUse,
    removal_costs,
    use_by_model,
    use_by_number,
)
from prunepolicy.pruning.vocabulary.tokenizer_file import TOKENIZER, TokenizerFile

TOKENS = ["<s>", "a", "b", "c", "ab", "abc", "bc", "ca"]
MERGES = [("a", "b"), ("ab", "c"), ("b", "c"), ("c", "a")]


@pytest.fixture
def tokenizer(tmp_path: Path) -> TokenizerFile:
    vocab = {token: number for number, token in enumerate(TOKENS)}
    text = tokenizers.Tokenizer(models.BPE(vocab, MERGES)).to_str()
    tmp_path.joinpath(TOKENIZER).write_text(text)
    return TokenizerFile.read(tmp_path)


def order(use: TokenUse, tokenizer: TokenizerFile) -> list[str]:
    """The tokens that can go, the first to go first."""
    costs = removal_costs(use, tokenizer, tokenizer.essential | {0})
    return [TOKENS[number] for number in costs.argsort().tolist() if costs[number] < torch.inf]


def test_what_others_are_built_from_goes_after_them(tokenizer: TokenizerFile) -> None:
    frequency = torch.tensor([0.1, 0.2, 0.2, 0.2, 0.001, 0.1, 0.05, 0.149], dtype=torch.float64)
    use = TokenUse(frequency, torch.ones(8, dtype=torch.float64))
    # "ab" is rare itself, but "abc", which is frequent, is built from it.
    assert order(use, tokenizer) == ["bc", "abc", "ab", "ca"]


def test_dear_pieces_keep_a_token_that_is_not_frequent(tokenizer: TokenizerFile) -> None:
    frequency = torch.tensor([0.2, 0.3, 0.3, 0.0, 0.05, 0.05, 0.05, 0.05], dtype=torch.float64)
    first = torch.zeros(8, dtype=torch.float64)
    first[6] = 20.0
    assert order(TokenUse(frequency, first), tokenizer)[-1] == "bc"


def test_rows_without_a_token_go_first_and_letters_never(tokenizer: TokenizerFile) -> None:
    use = use_by_number(12, torch.tensor([4, 5, 6, 7] * 5))
    costs = removal_costs(use, tokenizer, tokenizer.essential | {0})
    assert costs[8:].max() < 0 < costs[4:8].min()
    assert bool(torch.isinf(costs[:4]).all())
    assert costs[4:].unique().numel() == 8


def test_the_users_tokens_count_before_others(tokenizer: TokenizerFile) -> None:
    use = use_by_number(8, None)
    assert order(use, tokenizer)[-1] != "ca"
    assert order(use.with_text(torch.tensor([7, 7, 7])), tokenizer)[-1] == "ca"


def test_a_models_own_probabilities_are_frequencies(tokenizer: TokenizerFile) -> None:
    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(8, 2)

        def get_input_embeddings(self) -> torch.nn.Module:
            return self.embedding

        def forward(self, input_ids: torch.Tensor) -> object:
            likely = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.3, 0.1, 0.1, 0.1])
            logits = likely.log().expand(*input_ids.shape, 8)
            return type("Output", (), {"logits": logits})

    use = use_by_model(Fixed(), {"input_ids": torch.zeros(3, 5, dtype=torch.long)}, tokenizer)
    assert use.frequency.tolist() == pytest.approx([0.1] * 4 + [0.3] + [0.1] * 3, rel=0.1)
    # "ab" begins with "a", which is a third as likely.
    assert float(use.first[4]) == pytest.approx(1.0986, abs=1e-3)
    assert float(use.first[5]) == 0.0
