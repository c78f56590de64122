"""A frontier: one scoring pass, plans inside each other, and nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.cli import main
from prunepolicy.pruning.plan import Plan

Model = Callable[..., str]


def frontier(model: str, out: Path, policy: str, *more: str) -> int:
    return main(["frontier", model, "--out", str(out), "--of", "ffn", "--policy", policy, *more])


def test_plans_are_nested_and_can_be_cut(model: Model, quick: str, tmp_path: Path, capsys: Any) -> None:
    name, out = model(), tmp_path / "frontier"
    assert frontier(name, out, quick, "--keeps", "0.5,0.75") == 0
    assert "plan-0.75.json" in capsys.readouterr().out
    large, small = (Plan.load(out / f"plan-{keep}.json") for keep in ("0.75", "0.5"))
    assert all(set(small.keep[group]) < set(large.keep[group]) for group in large.keep)
    data = json.loads((out / "frontier.json").read_text())
    assert [row["keep"] for row in data["rows"]] == [0.75, 0.5]
    assert (out / "frontier.png").stat().st_size > 1000
    quickly = ("--no-measure", "--no-verify")
    cut = ["cut", name, str(out / "plan-0.5.json"), "--out", str(tmp_path / "cut"), *quickly]
    assert main(cut) == 0


@pytest.mark.parametrize(("keeps", "code"), [("0.9,x", 2), (",", 2), ("1.5", 2), ("0.001", 2)])
def test_bad_points_leave_nothing(
    keeps: str, code: int, model: Model, quick: str, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "frontier"
    assert frontier(model(), out, quick, "--keeps", keeps) == code
    assert capsys.readouterr().err.startswith("error: ")
    assert not out.exists()
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*"))


def test_models_that_write_no_text_have_no_frontier(model: Model, quick: str, tmp_path: Path) -> None:
    assert frontier(model("bert"), tmp_path / "frontier", quick) == 1
