"""What the vocabulary of every family that reads text must hold, on tiny random networks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import publish
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.units import VOCABULARY

Make = Callable[..., Checkpoint]
READERS = [
    (model_type, extra)
    for family in adapters
    for model_type in adapters[family].model_types
    if adapters[family].task in ("causal", "encoder")
    for extra in ({}, {"tie_word_embeddings": False})
]
LETTERS = "abcdefg"
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
KEPT = tuple(number for number in range(64) if number % 3 or number < 12)


def tiny_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Four special tokens, seven letters, and pairs of these: 60 tokens for 64 rows."""
    pairs = list(itertools.product(LETTERS, LETTERS))
    tokens = [*SPECIAL, *LETTERS, *("".join(pair) for pair in pairs)]
    model = tokenizers.models.BPE({token: n for n, token in enumerate(tokens)}, pairs, unk_token="<unk>")
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(model), **names)


def cut_to(checkpoint: Checkpoint, plan: Plan, target: Path) -> Path:
    folder = prepare(checkpoint, plan, target)
    finish(folder)
    publish(folder, target)
    return target


def answers(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        result = model(input_ids=ids)
    found: torch.Tensor = result.logits if "logits" in result else result.last_hidden_state
    return found


@pytest.mark.parametrize(("model_type", "extra"), READERS)
def test_masked_tokens_equal_cut_ones(
    model_type: str, extra: dict[str, Any], tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(model_type, **extra)
    tiny_tokenizer().save_pretrained(checkpoint.folder)
    graph, plan = checkpoint.graph, Plan({VOCABULARY: KEPT}, Budget(0.7, "vocabulary"), "test")
    dense = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    small = checkpoint.adapter.load(cut_to(checkpoint, plan, tmp_path / "cut"), torch.float32)
    ids = torch.randint(len(KEPT), (2, 12))
    whole = answers(dense, torch.tensor(KEPT)[ids])
    with masked(dense, graph, plan):
        expected = answers(dense, ids)
    torch.testing.assert_close(answers(small, ids), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(expected, whole[..., torch.tensor(KEPT)], rtol=1e-5, atol=1e-5)
    assert cost_of(graph, plan.keep).params == sum(p.numel() for p in small.parameters())
    torch.testing.assert_close(answers(dense, torch.tensor(KEPT)[ids]), whole)


@pytest.mark.parametrize("architecture", ["BertForSequenceClassification", "BertModel", "BertForPreTraining"])
def test_encoders_of_every_head_read_the_tokens_that_stay(
    architecture: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint("bert", architectures=[architecture])
    tiny_tokenizer().save_pretrained(checkpoint.folder)
    plan = Plan({VOCABULARY: KEPT}, Budget(0.7, "vocabulary"), "test")
    dense = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    small = checkpoint.adapter.load(cut_to(checkpoint, plan, tmp_path / "cut"), torch.float32)
    ids = torch.randint(len(KEPT), (2, 12))
    with torch.no_grad(), masked(dense, checkpoint.graph, plan):
        expected = dense(input_ids=ids)
    torch.testing.assert_close(small(input_ids=ids)[0], expected[0], rtol=1e-5, atol=1e-5)


def test_files_name_the_new_numbers(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama", pad_token_id=0)
    source = tiny_tokenizer()
    source.add_tokens(["<call>"])
    source.save_pretrained(checkpoint.folder)
    settings = {
        "bos_token_id": 1,
        "eos_token_id": [2, 10],
        "pad_token_id": -1,
        "suppress_tokens": [15, 16],
        "bad_words_ids": [[15], [16, 17]],
        "forced_decoder_ids": [[1, 2]],
        "max_new_tokens": 15,
    }
    checkpoint.folder.joinpath("generation_config.json").write_text(json.dumps(settings))
    checkpoint.folder.joinpath("vocab.json").write_text("{}")
    kept = (*range(11), 16, 17, 18, 60, 61)
    plan = Plan({VOCABULARY: kept}, Budget(0.2, "vocabulary"), "test")
    folder = cut_to(checkpoint, plan, tmp_path / "cut")
    small = transformers.AutoTokenizer.from_pretrained(folder)
    assert small.convert_tokens_to_ids("<call>") == len(kept) - 2
    words = "abc<call>de"
    old, new = source(words)["input_ids"], small(words)["input_ids"]
    assert "".join(small.convert_ids_to_tokens(new)) == "".join(source.convert_ids_to_tokens(old)) == words
    assert json.loads(folder.joinpath("generation_config.json").read_text()) == {
        **settings,
        "suppress_tokens": [11],
        "bad_words_ids": [[11, 12]],
    }
    config = Checkpoint.open(folder).config
    assert (config["vocab_size"], config["bos_token_id"], config["pad_token_id"]) == (len(kept), 1, 0)
    assert not folder.joinpath("vocab.json").exists()


def test_plans_that_take_what_every_text_may_need_are_refused(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    plan = Plan({VOCABULARY: tuple(range(3, 64))}, Budget(0.9, "vocabulary"), "test")
    with pytest.raises(PrunePolicyError, match=r"has no tokenizer\.json"):
        prepare(checkpoint, plan, tmp_path / "cut")
    tiny_tokenizer().save_pretrained(checkpoint.folder)
    with pytest.raises(PrunePolicyError, match="removes 3 tokens that every text may need"):
        prepare(checkpoint, plan, tmp_path / "cut")
    assert not [*tmp_path.glob("*cut*")]
