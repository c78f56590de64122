"""Calibration data: seeded, cached by fingerprint, never longer than the context."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.cache import cache_folder
from prunepolicy.pruning.statistics import writing
from prunepolicy.pruning.statistics.probe import Probe, probe_inputs, text_windows
from prunepolicy.pruning.statistics.writing import written_once

Make = Callable[..., Checkpoint]
SELF = Probe(samples=3, length=12)


@pytest.fixture
def written(
    tiny_checkpoint: Make, byte_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., torch.Tensor]:
    """A function that returns the token ids of a probe for a model with a given fingerprint."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkpoint = tiny_checkpoint(vocab_size=258)
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    return lambda probe, mark, *tick: probe_inputs(
        probe, model, checkpoint.adapter, byte_tokenizer, mark, *tick
    )["input_ids"]


def test_self_written_text_depends_on_the_seed_alone(written: Any) -> None:
    first = written(SELF, "")
    torch.manual_seed(5)
    assert torch.equal(written(SELF, ""), first)
    assert first.shape == (3, 12)
    assert set(first[:, 0].tolist()) == {1}
    assert not torch.equal(written(Probe(samples=3, length=12, seed=1), ""), first)


def test_every_second_of_varied_texts_starts_anywhere(written: Any) -> None:
    varied = written(Probe("varied", samples=40, length=8), "")
    assert set(varied[::2, 0].tolist()) == {1}
    assert len(set(varied[1::2, 0].tolist())) > 10
    assert torch.equal(written(Probe("varied", samples=40, length=8), ""), varied)
    assert not torch.equal(written(Probe("varied", samples=40, length=8, seed=1), "")[:, 0], varied[:, 0])
    assert written(Probe("varied", samples=1, length=8), "").tolist()[0][0] == 1


def test_it_is_cached_by_fingerprint_and_written_again_when_damaged(written: Any) -> None:
    first = written(SELF, "one")
    (file,) = (cache_folder() / "probes").iterdir()
    place = file.stat().st_ino
    assert torch.equal(written(SELF, "one"), first)
    assert file.stat().st_ino == place
    written(SELF, "two")
    written(replace(SELF, source="varied"), "one")
    assert len(list((cache_folder() / "probes").iterdir())) == 3
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    assert torch.equal(written(SELF, "one"), first)
    assert file.read_bytes() == whole


def test_writing_says_how_far_it_is_and_reading_the_cache_has_nothing_to_say(written: Any) -> None:
    done: list[int] = []
    written(Probe(samples=40, length=12), "one", done.append)
    assert sum(done) == 40 * 11
    assert max(done) == 32
    done.clear()
    written(Probe(samples=40, length=12), "one", done.append)
    assert not done


def test_no_sequence_is_longer_than_the_context(written: Any, tmp_path: Path) -> None:
    assert written(Probe(samples=2, length=500), "").shape == (2, 64)
    text = tmp_path / "text.txt"
    text.write_text("words " * 100)
    assert written(Probe(str(text), samples=2, length=500), "").shape == (2, 64)
    assert written(Probe("start"), "").tolist() == [[1]]


def test_own_writing_and_a_file_are_watched_to_equal_parts(written: Any, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("words " * 100)
    both = written(Probe(f"self+{text}", samples=3, length=12), "")
    assert torch.equal(both[:3], written(SELF, ""))
    assert torch.equal(both[3:], written(Probe(str(text), samples=3, length=12), ""))


@pytest.fixture
def reader() -> nn.Module:
    """A model that knows every token of the byte tokenizer."""
    return adapter_for({"model_type": "llama"}).build(
        {**adapter_for({"model_type": "llama"}).tiny(), "vocab_size": 258}
    )


def test_text_windows_are_spread_evenly(tmp_path: Path, reader: nn.Module, byte_tokenizer: Any) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(ord("a") + number) * 10 for number in range(10)))
    windows = text_windows(text, reader, byte_tokenizer, Probe(samples=2, length=10))
    assert [byte_tokenizer.decode(row) for row in windows] == ["a" * 10, "f" * 10]
    assert len(text_windows(text, reader, byte_tokenizer, Probe(samples=99, length=10))) == 10


def test_bad_probes_are_refused(tmp_path: Path, reader: nn.Module, byte_tokenizer: Any) -> None:
    short, binary = tmp_path / "short.txt", tmp_path / "binary.txt"
    short.write_text("hello")
    binary.write_bytes(b"\xff\xfe")
    for file, words in ((short, "has 5 tokens"), (binary, "Can't read"), (tmp_path / "none", "Can't read")):
        with pytest.raises(PrunePolicyError, match=words):
            text_windows(file, reader, byte_tokenizer, Probe(length=10))
    with pytest.raises(UsageError, match="at least one sample"):
        Probe(samples=0)


@pytest.mark.parametrize("model_type", ["bert", "vit", "cifar_resnet"])
def test_models_that_write_nothing_see_seeded_noise(model_type: str, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(model_type)
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    (name, first), *_ = probe_inputs(SELF, model, checkpoint.adapter, None, "").items()
    for same in (SELF, replace(SELF, source="varied")):
        assert torch.equal(first, probe_inputs(same, model, checkpoint.adapter, None, "")[name])
    assert len(first) == 3
    with torch.no_grad():
        model(**{name: first})


def _never() -> torch.Tensor:
    raise AssertionError("It is known.")


def test_the_cache_gives_up_the_texts_that_were_used_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    texts = {"a": torch.zeros(100), "b": torch.ones(100), "c": torch.full((100,), 2.0)}
    folder = tmp_path / "prunepolicy" / "probes"
    written_once(["a"], lambda: texts["a"])
    written_once(["b"], lambda: texts["b"])
    size = sum(file.stat().st_size for file in folder.iterdir())
    for age, file in enumerate(sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)):
        os.utime(file, (age, age))
    assert written_once(["a"], _never).equal(texts["a"])
    monkeypatch.setattr(writing, "MOST_BYTES", size)
    written_once(["c"], lambda: texts["c"])
    assert len(list(folder.iterdir())) == 2
    assert written_once(["a"], _never).equal(texts["a"])
    assert written_once(["b"], lambda: torch.zeros(1)).equal(torch.zeros(1))
