"""A short portion of every attack that `make chaos` goes on with: nothing fails.

`benchmarks/attack/fuzz.py --replay KIND NUMBER` does a failure again; the others name what they did.
"""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from prunepolicy.policy.zoo import pinned_keys, transfer
from prunepolicy.policy.zoo.sources.http import Http
from prunepolicy.pruning.io.cache import temporary_folder

pytest.importorskip("ray")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks" / "attack"
ENDLESS = 1e9
"""Seconds: what is done is counted, not timed."""


@pytest.fixture
def attack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A function that imports an attack, and hands it empty counts and a folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for owner, name in (
        (pinned_keys, "PINNED"),
        (transfer, "PAUSE"),
        (transfer, "ATTEMPTS"),
        (Http, "patience"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    before, place = dict(os.environ), os.getcwd()
    level = logging.getLogger("prunepolicy").level

    def start(name: str) -> tuple[ModuleType, Any]:
        importlib.import_module("chaos").apart(tmp_path)
        return importlib.import_module(name), importlib.import_module("chaos").Counts(
            tmp_path / "counts.json"
        )

    yield start
    logging.getLogger("prunepolicy").setLevel(level)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(before)
    tempfile.tempdir = None
    temporary_folder.cache_clear()


def test_damaged_files_are_read_or_refused_in_a_sentence(attack: Any, tmp_path: Path) -> None:
    module, counts = attack("fuzz")
    module.fuzz(counts, tmp_path, ENDLESS, portion=6)
    assert counts.failures == []
    assert counts.total > 200
    came = {name for row in counts.rows.values() for name in row}
    assert came == {"accepted", "refused"}


def test_killed_runs_end_with_the_same_bytes(attack: Any, tmp_path: Path) -> None:
    module, counts = attack("kills")
    module.kill(counts, tmp_path, ENDLESS, portion=2, once=True)
    assert counts.failures == []
    assert counts.rows["cut"] == {"same bytes": 2}


def test_full_and_forbidden_disks_are_refused_in_a_sentence(attack: Any, tmp_path: Path) -> None:
    module, counts = attack("full_disk")
    module.fill(counts, tmp_path, ENDLESS, once=25)
    assert counts.failures == []
    assert any("refused" in row for row in counts.rows.values())


def test_hostile_servers_are_refused_soon(attack: Any, tmp_path: Path) -> None:
    module, counts = attack("hostile_server")
    module.besiege(counts, tmp_path, ENDLESS, once=2 * len(module.BEHAVIOURS))
    assert counts.failures == []
    assert sum(row.get("refused", 0) for row in counts.rows.values()) > len(module.BEHAVIOURS)


def test_counts_go_on_and_failures_are_tried_again(attack: Any, tmp_path: Path) -> None:
    _, counts = attack("fuzz")
    counts.add("one", "accepted")
    counts.add("one", "failed", "words")
    counts.save()
    again = type(counts).open(counts.file)
    assert (again.tried("one"), again.failed) == (2, 1)
    again.retry(lambda case, number: ("refused", "") if (case, number) == ("one", 1) else None)
    assert again.rows == {"one": {"accepted": 1, "refused": 1}}
    assert again.failures == []


def test_a_failing_reader_is_counted_as_a_failure(attack: Any) -> None:
    attack("fuzz")
    chaos = importlib.import_module("chaos")

    def broken() -> None:
        raise KeyError("x")

    assert chaos.verdict(broken) == ("failed", "KeyError: 'x'")
    assert chaos.in_child(lambda: "done").status == 0
    assert chaos.in_child(broken).status == 70
