"""Tokens taken out of tokenizers of every kind, which are trained here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from prunepolicy.pruning.errors import BadCheckpointError, UnsupportedModelError
from prunepolicy.pruning.vocabulary.tokenizer_file import TOKENIZER, TokenizerFile

Tokenizer = Any
TEXTS = [
    "The rain in the plain falls mainly where the grain remains; the train came again.",
    "Pruning removes what a network can do without, and measures what it can't.",
    "naïve café, 東京 and Привет: text of several kinds, in the same container.",
] * 4
ODD = b"\x00\xff\xfe caf\xc3\xa9 \xf0\x9f\x98\x80\t\r\n  two  spaces \xe6\x9d".decode("latin-1")


def byte_pairs() -> Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", start)])
    return tokenizer


def falling_back() -> Tokenizer:
    """Byte-pair encoding as SentencePiece has it: letters, and bytes for those that are missing."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    vocab = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<pad>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def wordpiece() -> Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte pairs": byte_pairs,
    "byte pairs falling back": falling_back,
    "unigram": unigram,
    "wordpiece": wordpiece,
}


def read(tokenizer: Tokenizer, folder: Path) -> TokenizerFile:
    folder.joinpath(TOKENIZER).write_text(tokenizer.to_str(), encoding="utf-8")
    return TokenizerFile.read(folder)


def complete(file: TokenizerFile, seed: int, share: float) -> list[int]:
    """Ids that stay: all essential ones, and a random share of the others with what they are built from."""
    free = sorted(file.tokens.keys() - file.essential)
    chosen = np.random.default_rng(seed).permutation(free)[: int(share * len(free))].tolist()
    kept, waiting = set(file.essential), chosen
    while waiting:
        number = waiting.pop()
        if number not in kept:
            kept.add(number)
            waiting += file.pieces.get(number, ()) if file.model.builds else ()
    return sorted(kept)


def without(file: TokenizerFile, kept: Sequence[int]) -> Tokenizer:
    new = {old: number for number, old in enumerate(kept)}
    return tokenizers.Tokenizer.from_str(json.dumps(file.without(new)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_texts_without_removed_tokens_are_encoded_as_before(kind: str, seed: int, tmp_path: Path) -> None:
    tokenizer = KINDS[kind]()
    file = read(tokenizer, tmp_path)
    kept = complete(file, seed, 0.5)
    assert len(file.essential) < len(kept) < len(file.tokens)
    small, new = without(file, kept), {old: number for number, old in enumerate(kept)}
    assert small.get_vocab_size() == len(kept)
    compared = 0
    for word in sorted({word for text in TEXTS for word in text.split()}):
        for text in (word, f"{word} {word}", word.capitalize()):
            ids = tokenizer.encode(text).ids
            if new.keys() >= {*ids}:
                assert small.encode(text).ids == [new[number] for number in ids]
                compared += 1
            decoded = small.decode(small.encode(text).ids, skip_special_tokens=True)
            assert decoded == tokenizer.decode(ids, skip_special_tokens=True)
    assert compared >= 5


@pytest.mark.parametrize("kind", ["byte pairs", "byte pairs falling back"])
def test_every_byte_string_comes_back(kind: str, tmp_path: Path) -> None:
    file = read(KINDS[kind](), tmp_path)
    small = without(file, sorted(file.essential))
    for text in (ODD, "東京 Привет", *TEXTS[:3]):
        assert small.decode(small.encode(text, add_special_tokens=False).ids) == text


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_token_is_written_by_spells_it(kind: str, tmp_path: Path) -> None:
    file = read(KINDS[kind](), tmp_path)
    for number, pieces in file.pieces.items():
        spelled = "".join(file.tokens[piece].removeprefix("##") for piece in pieces)
        token = file.tokens[number].removeprefix("##")
        assert number not in pieces
        assert (
            spelled == token or bytes.fromhex(spelled.replace("<0x", "").replace(">", "")).decode() == token
        )
    assert file.pieces.keys() >= file.tokens.keys() - file.essential


def test_pieces_of_a_token_with_several_rules_are_those_that_encoding_uses(tmp_path: Path) -> None:
    tokens = ["a", "b", "c", "bc", "ab", "abc"]
    merges = [("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "c")]
    vocab = {token: number for number, token in enumerate(tokens)}
    file = read(tokenizers.Tokenizer(models.BPE(vocab, merges)), tmp_path)
    assert file.pieces[vocab["abc"]] == (vocab["ab"], vocab["c"])


def test_a_token_whose_pieces_are_gone_is_written_by_what_is_left(tmp_path: Path) -> None:
    tokens = ["a", "b", "ab", "abab"]
    vocab = {token: number for number, token in enumerate(tokens)}
    file = read(tokenizers.Tokenizer(models.BPE(vocab, [("a", "b"), ("ab", "ab")])), tmp_path)
    assert without(file, [0, 1, 3]).encode("abab").ids == [0, 1, 0, 1]


def test_special_letters_and_bytes_are_essential(tmp_path: Path) -> None:
    file = read(byte_pairs(), tmp_path)
    names = {file.tokens[number] for number in file.essential}
    assert names == {"<s>", "</s>", *pre_tokenizers.ByteLevel.alphabet()}
    file = read(wordpiece(), tmp_path)
    names = {file.tokens[number] for number in file.essential}
    assert {"[CLS]", "[PAD]", "[UNK]", "a", "##a"} <= names < {*file.tokens.values()}


def test_tokenizers_that_cannot_be_cut_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"has no tokenizer\.json"):
        TokenizerFile.read(tmp_path)
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(UnsupportedModelError, match="WordLevel"):
        read(words, tmp_path)
    for damaged in ("{", "[]", '{"model": 3}', '{"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}}}'):
        tmp_path.joinpath(TOKENIZER).write_text(damaged)
        with pytest.raises((BadCheckpointError, UnsupportedModelError)):
            TokenizerFile.read(tmp_path)
