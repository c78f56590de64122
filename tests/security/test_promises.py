"""The documents say what the committed counts say, and that is what was promised."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ATTACKS = ("fuzz", "kills", "full_disk", "hostile_server")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "tables"))
    return importlib.import_module("chaos_tables")


def committed() -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    results = ROOT / "benchmarks" / "results"
    return {name: json.loads((results / f"{name}.json").read_text()) for name in ATTACKS}


def test_the_table_is_what_the_counts_say(tables: ModuleType) -> None:
    assert tables.chaos(committed()) in (ROOT / "docs" / "results" / "security.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_was_tried_failed(attack: str, tables: ModuleType) -> None:
    found = committed()[attack]
    assert tables.failed(found["rows"]) == len(found["failures"]) == 0


def test_enough_was_tried(tables: ModuleType) -> None:
    assert tables.tried(committed()["fuzz"]["rows"]) >= 100_000
    assert tables.tried(committed()["kills"]["rows"]) >= 500


def test_rows_are_summed_by_kind(tables: ModuleType) -> None:
    rows = {
        "recipe: one": {"accepted": 1, "failed": 1},
        "recipe: two": {"accepted": 2, "refused": 3},
        "ENOSPC: out, cut": {"refused": 1},
        "ENOSPC: out, prune": {"refused": 1},
    }
    text = tables.chaos({"fuzz": {"rows": rows, "failures": []}})
    assert "| damaged files | 9 | 3 accepted, 5 refused | 1 |" in text
    assert "| recipes | 7 | 3 accepted, 3 refused | 1 |" in text
    assert "| ENOSPC: out | 2 | 2 refused | 0 |" in text
