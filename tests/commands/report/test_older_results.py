"""Plans and reports that an earlier version saved still load, and read as today's do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from prunepolicy.commands.report.card import card
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.commands.report.report_view import comparisons
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.statistics.probe import Probe

SAVED = Path(__file__).parents[2] / "fixtures" / "results"
PLANS = sorted(SAVED.glob("*/plan.json"))
REPORTS = sorted(SAVED.glob("*/prune_report.json"))
TODAY = re.compile(r"(Prefill \(\d+ tokens\)|Decode \(per token\)|Forward pass \(one (image|text)\))")


def name_of(file: Path) -> str:
    return file.parent.name


def test_there_are_plans_and_reports_of_several_kinds() -> None:
    assert {name_of(file) for file in PLANS} >= {"uniform", "per-layer", "experts", "latency", "rounds"}
    assert {name_of(file) for file in REPORTS} >= {"uniform", "per-layer", "vision", "distilled"}


@pytest.mark.parametrize("file", PLANS, ids=name_of)
def test_an_older_plan_loads_and_is_saved_as_the_same_text(file: Path) -> None:
    plan = Plan.load(file)
    assert plan.to_json() == file.read_text(encoding="utf-8")
    assert Probe(**plan.settings["probe"]).samples > 0


@pytest.mark.parametrize("file", REPORTS, ids=name_of)
def test_an_older_report_loads_with_everything_that_it_says(file: Path) -> None:
    stored, report = json.loads(file.read_text(encoding="utf-8")), PruneReport.read(file.parent)
    again = json.loads(report.to_json())
    assert sorted(again["after"].pop("latency").values()) == sorted(stored["after"].pop("latency").values())
    assert len(again["before"].pop("latency")) == len(stored["before"].pop("latency")) > 0
    assert len(again.pop("speedups")) == len(stored.pop("speedups"))
    for facts in (again["before"], again["after"]):
        if facts["score"] is not None:
            assert facts["score"].pop("bits_per_byte") is None, "tokens never changed then"
    assert again["origin"].pop("texts") == [], "plans of then name none that cut would need"
    assert again == {"reading": None, "prompts": [], "recoveries": []} | stored, "no text had a say then"


@pytest.mark.parametrize("file", REPORTS, ids=name_of)
def test_an_older_report_names_workloads_as_today(file: Path) -> None:
    report = PruneReport.read(file.parent)
    workloads = {*report.before.latency, *report.after.latency, *report.speedups}
    assert all(TODAY.fullmatch(workload) for workload in workloads)
    rows = {row.name for row in comparisons(report)}
    assert workloads <= rows
    assert all(workload in card(report) for workload in workloads)
    assert PruneReport.from_json(report.to_json()) == report


def test_a_damaged_report_is_refused_in_one_sentence() -> None:
    data = json.loads(REPORTS[0].read_text(encoding="utf-8"))
    for part, value in (("before", 3), ("after", {"latency": [1]}), ("speedups", 1)):
        with pytest.raises(PrunePolicyError, match="Not a report"):
            PruneReport.from_json(json.dumps({**data, part: value}))
