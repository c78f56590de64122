"""Statistics come back as they were, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.io.cache import cache_folder
from prunepolicy.pruning.statistics import stats_cache
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.stats_cache import LIMIT, CachedStats

STATS = Stats({
    "rms": {"layers.0.ffn": torch.arange(6.0), "layers.1.ffn": torch.empty(0)},
    "gradients": {"layers.0.ffn": torch.randn(3, 6), "layers": torch.tensor(2.5, dtype=torch.float64)},
})  # fmt: skip


@pytest.fixture
def watched(
    tiny_checkpoint: Callable[..., Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CachedStats:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("one")
    probe = Probe(str(text))
    return CachedStats(tiny_checkpoint(), probe, frozenset(["gradients"]), torch.float32, "cpu")


def entries() -> list[Path]:
    return sorted((cache_folder() / "statistics").glob("*"))


def test_what_is_kept_comes_back_bit_by_bit(watched: CachedStats) -> None:
    assert watched.recalled() is None
    watched.remember(STATS)
    found = replace(watched).recalled()
    assert found is not None
    assert found.values.keys() == STATS.values.keys()
    for name, groups in STATS.values.items():
        for group, tensor in groups.items():
            assert found.get(name, group).dtype == tensor.dtype
            assert torch.equal(found.get(name, group), tensor)


@pytest.mark.parametrize("place", [3, 100, -40, -1])
def test_a_damaged_entry_is_none_and_is_replaced(place: int, watched: CachedStats) -> None:
    watched.remember(STATS)
    (file,) = entries()
    whole = bytearray(file.read_bytes())
    whole[place] ^= 1
    file.write_bytes(whole)
    assert watched.recalled() is None
    file.write_bytes(whole[:place])
    assert watched.recalled() is None
    watched.remember(STATS)
    assert watched.recalled() is not None
    assert entries() == [file]


def test_whatever_decides_the_numbers_decides_the_entry(
    watched: CachedStats, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.remember(STATS)
    others = [
        replace(watched, needs=frozenset(["activations"])),
        replace(watched, dtype=torch.bfloat16),
        replace(watched, device="cuda"),
        replace(watched, probe=replace(watched.probe, seed=1)),
        replace(watched, probe=replace(watched.probe, source="varied")),
    ]
    assert [other.recalled() for other in others] == [None] * len(others)
    monkeypatch.setattr(stats_cache, "code_version", lambda: "another")
    assert replace(watched).recalled() is None


def test_another_text_of_the_same_name_and_weights_written_anew_count_as_others(watched: CachedStats) -> None:
    watched.remember(STATS)
    assert watched.probe.file is not None
    watched.probe.file.write_text("two")
    assert replace(watched).recalled() is None
    watched.probe.file.write_text("one")
    assert replace(watched).recalled() is not None
    os.utime(watched.checkpoint.folder / "model.safetensors", ns=(1, 1))
    assert replace(watched).recalled() is None


def test_what_was_used_longest_ago_makes_room(watched: CachedStats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "1")
    large = Stats({"rms": {"all": torch.zeros(100_000)}})
    runs = [replace(watched, device=str(number)) for number in range(4)]
    for age, run in enumerate(runs[:2]):
        run.remember(large)
        os.utime(run._file, ns=(age + 1, age + 1))
    assert runs[0].recalled() is not None  # so that the other one is older now
    runs[2].remember(large)
    assert [run.recalled() is not None for run in runs] == [True, False, True, False]
    monkeypatch.setenv(LIMIT, "0")
    runs[3].remember(large)
    assert runs[3].recalled() is None


def test_a_cache_that_cannot_be_written_keeps_nothing(
    watched: CachedStats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    watched.remember(STATS)
    assert watched.recalled() is None
