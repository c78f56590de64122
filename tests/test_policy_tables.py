"""The numbers in the comparison of policies are what its rows say."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
MODEL = "smollm2-135m"
DENSE = {"block": "dense", "model": MODEL, "method": "dense", "group": "dense", "prose": 3.0, "code": 2.0}


@pytest.fixture
def tables() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS / "tables"))
        yield importlib.import_module("policy_tables")


def row(method: str, group: str, seed: int = 0, **found: Any) -> dict[str, Any]:
    place = {"block": "selection", "model": MODEL, "of": "ffn", "keep": 0.7, "uniform": True}
    return place | {"method": method, "group": group, "seed": seed} | found


def compared() -> list[dict[str, Any]]:
    return [
        DENSE,
        row("random", "hand-made", prose=5.0, code=4.0),
        *(
            row("fisher", "hand-made", seed, prose=3.0 + excess)
            for seed, excess in enumerate((1.9, 1.0, 0.8))
        ),
        row("quadratic search", "search", prose=3.5),
        *(row("graph", "learned", seed, prose=3.0 + excess) for seed, excess in enumerate((0.7, 0.9, 0.75))),
        row("prunenet", "learned", refused="It knows other shapes only."),
    ]


def test_learned_policies_are_compared_with_the_best_criterion_by_medians(tables: ModuleType) -> None:
    found, place = tables.Comparison(compared()), tables.Place("ffn", 0.7, True)
    assert found.best_hand_made(place) == ("fisher", pytest.approx(1.0))
    assert found.relative("graph", place) == pytest.approx([0.7, 0.9, 0.75])
    text = "\n".join(tables.against_hand_made(found))
    assert "| keep 0.7 of ffn, equal widths | fisher: 1.000 | -25.0% |" in text
    assert "prunenet" not in text


def test_ranking_puts_the_smallest_median_first_and_leaves_refusals_out(tables: ModuleType) -> None:
    places = [tables.Place("ffn", 0.7, True, text=text) for text in ("prose", "code")]
    lines = "\n".join(tables.ranking("All", tables.Comparison(compared()), places)).splitlines()
    assert [line.split(" | ")[0] for line in lines[4:]] == [
        "| quadratic search", "| graph", "| fisher", "| random"
    ]  # fmt: skip
    assert lines[-1] == "| random | hand-made | 1 | 2.000 | 2.000 |"


def test_other_budgets_shapes_and_models_are_kept_apart(tables: ModuleType) -> None:
    found = tables.Comparison([
        *compared(),
        row("graph", "learned", prose=9.0) | {"uniform": False},
        row("graph", "learned", excess=0.25) | {"block": "small", "model": "models/llama-1m"},
    ])  # fmt: skip
    assert found.excess("graph", tables.Place("ffn", 0.7, False)) == [6.0]
    assert found.excess("graph", tables.Place("ffn", 0.7, True, "small", "models/llama-1m")) == [0.25]
    assert len(found.excess("graph", tables.Place("ffn", 0.7, True))) == 3


def test_what_a_policy_starts_from_stands_beside_what_it_learned(tables: ModuleType) -> None:
    more = [row("graph, unlearned", "rule", prose=3.9)]
    mended = {"block": "repaired"}
    rows = [row("fisher", "hand-made", prose=3.5) | mended, row("graph", "learned", prose=3.4) | mended]
    found = tables.Comparison([*compared(), *more, *rows])
    before = "\n".join(tables.against_hand_made(found, ("selection",)))
    assert "| keep 0.7 of ffn, equal widths | fisher: 1.000 | -10.0% | -25.0% |" in before
    after = "\n".join(tables.against_hand_made(found, ("repaired",), "After a repair"))
    assert after.startswith("### After a repair")
    assert "| keep 0.7 of ffn, equal widths | fisher: 0.500 | -20.0% |" in after


def test_graph_policies_take_part_twice() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS / "measure"))
        contenders = importlib.import_module("contenders")
    names = [(c.name, c.unlearned) for c in contenders.learned("graph=runs/graph/seed-{seed}")]
    assert names == [("graph", False), ("graph, unlearned", True)]
    assert len(contenders.learned("prunenet, corrected=runs/prunenet/seed-{seed}")) == 1
    params = [job for job in contenders.jobs(contenders.CONTENDERS, []) if job.budget.of == "params"]
    assert {"repaired", "selection"} <= {job.block for job in params}
