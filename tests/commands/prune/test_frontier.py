"""A frontier: one scoring pass, plans inside each other, and nothing half-written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.cli import main
from prunepolicy.commands.prune.frontier import Frontier, FrontierRow
from prunepolicy.commands.prune.frontier_page import frontier_page
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
    page = (out / "report.html").read_text()
    assert all(f"{row['perplexity']:.4g}" in page for row in data["rows"])
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


def drawn(perplexities: tuple[float, ...]) -> Frontier:
    rows = [
        FrontierRow(keep, keep, keep, perplexity, f"plan-{keep:g}.json")
        for keep, perplexity in zip((0.9, 0.8, 0.7), perplexities, strict=True)
    ]
    return Frontier("<i>m</i>", "fisher", "params", 20.0, 1000, "prose", "out", tuple(rows))


def test_the_page_marks_the_smallest_size_that_is_not_degraded() -> None:
    text = frontier_page(drawn((22.0, 40.0, 41.0)), "prunepolicy frontier m")
    assert "Keeping 0.8 of the parameters is the smallest size" in text
    assert "20 → 40 with 80.0%" in text
    assert text.count('class="chosen"') == 1
    assert "out/plan-0.8.json" in text
    assert "&lt;i&gt;m&lt;/i&gt; by size" in text
    assert "<i>" not in text
    assert "<script" not in text


def test_the_page_marks_nothing_where_every_size_is_degraded() -> None:
    text = frontier_page(drawn((50.0, 60.0, math.inf)), "")
    assert "No size keeps the perplexity" in text
    assert 'class="chosen"' not in text
    assert "nan%" not in text
    assert "inf%" not in text
