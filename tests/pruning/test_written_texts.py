"""Texts of many kinds that a tiny model writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.statistics.openings import OPENINGS
from prunepolicy.pruning.statistics.writing import continued
from prunepolicy.pruning.statistics.written_texts import KINDS, Writing, written_texts

Make = Callable[..., Checkpoint]


def test_texts_begin_as_their_kind_does_and_depend_on_the_seed(
    tiny_checkpoint: Make, byte_tokenizer: transformers.PreTrainedTokenizerFast
) -> None:
    made = tiny_checkpoint("llama", vocab_size=258, max_position_embeddings=128)
    model = made.adapter.load(made.folder, torch.float32)
    writing = Writing(3, 100, kinds=("python", "chat"))
    texts = written_texts(writing, model, byte_tokenizer, "")
    assert texts.shape == (3, 100)
    begun = [byte_tokenizer.decode(text[1:]) for text in texts]
    assert begun[0].startswith(OPENINGS["python"][0][:30])
    assert begun[2].startswith(OPENINGS["python"][1][:30])
    assert begun[1].startswith("Q: ")
    assert torch.equal(texts, written_texts(writing, model, byte_tokenizer, ""))
    assert not torch.equal(
        texts, written_texts(Writing(3, 100, kinds=("python",), seed=1), model, byte_tokenizer, "")
    )


def test_texts_are_written_once(
    tiny_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tiny_checkpoint("llama")
    model, written = made.adapter.load(made.folder, torch.float32), list[int]()
    first, again = (
        written_texts(Writing(4, 8), model, None, made.fingerprint, written.append) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert sum(written) == 4 * 7


def test_a_beginning_is_read_as_if_it_stood_alone(tiny_checkpoint: Make) -> None:
    """Beginnings of other lengths beside it change nothing but what is drawn."""
    made = tiny_checkpoint("llama")
    model = made.adapter.load(made.folder, torch.float32)
    beginnings = [torch.tensor([1, 5, 9, 7]), torch.tensor([1]), torch.tensor([1, 3])]
    cold = continued(model, beginnings, 8, torch.Generator().manual_seed(0), temperature=1e-4)
    for row, begun in zip(cold, beginnings, strict=True):
        alone = continued(model, [begun], 8, torch.Generator().manual_seed(5), temperature=1e-4)
        assert torch.equal(row, alone[0])
        assert row[: len(begun)].tolist() == begun.tolist()


def test_unknown_kinds_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'tables'"):
        Writing(kinds=("table",))
    assert "chat" in KINDS
