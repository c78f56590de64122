"""Budgets refuse what can't be meant; plans survive the way to disk and back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import MOST_UNITS, Budget, Of, Plan, from_ranges, to_ranges
from prunepolicy.pruning.units import UnitGraph, UnitGroup

quick = settings(derandomize=True, deadline=1000, max_examples=60)

GRAPH = UnitGraph(
    "toy",
    {},
    (
        UnitGroup("layers.0.ffn", "ffn", 8, "width", layer=0, floor=2),
        UnitGroup("layers.1.ffn", "ffn", 8, "width", layer=1, floor=2),
        UnitGroup("layers", "layer", 2, "depth"),
    ),
)

unit_ids = st.sets(st.integers(0, 300)).map(lambda ids: tuple(sorted(ids)))
budgets = st.builds(
    Budget,
    keep=st.floats(0, 1, exclude_min=True),
    of=st.sampled_from(get_args(Of)),
    context=st.integers(0, 1 << 20),
    uniform=st.booleans(),
    units=st.sampled_from([(), ("ffn",), ("ffn", "heads"), ("layers",)]),
    multiple_of=st.none() | st.integers(1, 256),
)
plans = st.builds(
    Plan,
    keep=st.dictionaries(st.text(min_size=1, max_size=12), unit_ids, max_size=5),
    budget=budgets,
    made_by=st.text(max_size=12),
    fingerprint=st.text("0123456789abcdef", max_size=64),
    repair=st.none() | st.text(min_size=1, max_size=8),
    settings=st.dictionaries(
        st.text(max_size=6), st.integers() | st.text(max_size=6) | st.booleans(), max_size=3
    ),
)


def example_plan() -> Plan:
    return Plan({"layers.0.ffn": (0, 1, 2, 5)}, Budget(0.5), "test")


def edited(**changes: object) -> str:
    """The example plan's file with some of its keys set to other values."""
    return json.dumps(json.loads(example_plan().to_json()) | changes)


@pytest.mark.parametrize("keep", [0, -1, 1.2, 40, 100, math.nan, math.inf, -math.inf])
def test_keep_outside_its_range_is_a_usage_error(keep: float) -> None:
    with pytest.raises(UsageError, match=rf"above 0 and at most 1; got {keep:g}"):
        Budget(keep)


@pytest.mark.parametrize(("keep", "meant"), [(40, "0.4"), (2, "0.02"), (99.5, "0.995")])
def test_a_percentage_names_the_fraction_that_was_meant(keep: float, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"got {keep:g}\. {keep:g} % is {meant}\."):
        Budget(keep)


@pytest.mark.parametrize("keep", [0, -1, 1.2, math.nan, 400])
def test_no_fraction_is_suggested_where_none_was_meant(keep: float) -> None:
    with pytest.raises(UsageError) as caught:
        Budget(keep)
    assert "%" not in str(caught.value)


@pytest.mark.parametrize(("of", "nearest"), [("param", "params"), ("flop", "flops"), ("layer", "layers")])
def test_an_unknown_quantity_names_the_nearest(of: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"'{of}'.* Did you mean '{nearest}'"):
        Budget(0.5, of=of)  # type: ignore[arg-type]


def test_unknown_units_and_multiples_below_one_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="Did you mean 'heads'"):
        Budget(0.5, units=("head",))
    with pytest.raises(UsageError, match="at least 1; got 0"):
        Budget(0.5, multiple_of=0)


def test_a_budget_names_the_kinds_of_unit_it_limits() -> None:
    assert Budget(0.5).kinds == ()
    assert Budget(0.5, of="heads").kinds == ("kv_head", "query_head")
    assert Budget(0.5, units=("ffn", "layers")).kinds == ("ffn", "layer")
    assert Budget(0.5, of="experts", units=("ffn",)).kinds == ("expert",)


@quick
@given(unit_ids)
def test_ranges_are_read_as_they_were_written(units: tuple[int, ...]) -> None:
    assert from_ranges(to_ranges(units)) == units


def test_ranges_are_short() -> None:
    assert to_ranges((0, 1, 2, 5)) == "0-2,5"
    assert to_ranges(range(1536)) == "0-1535"
    assert to_ranges(()) == ""


@pytest.mark.parametrize(
    "text", ["x", "1-", "-1", "1--3", "3-1", "1,,2", "1.5", f"0-{MOST_UNITS}", f"0-9,1-{MOST_UNITS - 5}"]
)
def test_malformed_ranges_are_refused(text: str) -> None:
    with pytest.raises(PrunePolicyError, match="Not a list of units"):
        from_ranges(text)


@quick
@given(plans)
def test_plans_survive_json(plan: Plan) -> None:
    text = plan.to_json()
    again = Plan.from_json(text)
    assert again == plan
    assert again.to_json() == text


def test_plans_survive_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plan.json"
    example_plan().save(path)
    assert Plan.load(path) == example_plan()
    assert [file.name for file in path.parent.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (edited(surprise=1), "surprise"),
        (edited(keep={"layers.0.ffn": [0, 1]}), r"keep\.layers\.0\.ffn"),
        (edited(keep={"layers.0.ffn": "a-b"}), "Not a list of units: 'a-b'"),
        (edited(schema_version=2), "schema_version"),
        (edited(budget={"keep": 0.5}), r"budget\.of"),
        (edited(budget=vars(Budget(0.5)) | {"keep": 3}), "at most 1; got 3"),
        (edited(budget=vars(Budget(0.5)) | {"kept": 3}), r"budget\.kept"),
        ("{", "Not a plan: Expecting"),
        ("[]", "the file"),
    ],
)
def test_files_that_are_no_plans_are_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(PrunePolicyError, match=reason):
        Plan.from_json(text)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrunePolicyError, match=r"Can't read the plan .*nowhere\.json"):
        Plan.load(tmp_path / "nowhere.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PrunePolicyError, match=r"Can't read the plan .*binary\.json"):
        Plan.load(tmp_path / "binary.json")


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        ({"layers.7.ffn": (0,)}, r"names 'layers\.7\.ffn', which this model doesn't have"),
        ({"layers.0.ffn": (0, 8)}, "distinct and below 8"),
        ({"layers.0.ffn": (-1, 2)}, "distinct and below 8"),
        ({"layers.0.ffn": (3, 2)}, "must be sorted"),
        ({"layers.0.ffn": (2, 2)}, "distinct"),
        ({"layers.0.ffn": ()}, "sorted, distinct"),
        ({"layers.0.ffn": (5,)}, r"keeps 1 of 'layers\.0\.ffn'; at least 2 must stay"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(keep: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(PrunePolicyError, match=reason):
        Plan(keep, Budget(0.5), "test").check(GRAPH)


def test_groups_that_a_plan_does_not_name_stay_whole() -> None:
    plan = example_plan()
    plan.check(GRAPH)
    assert plan.counts(GRAPH) == {"layers.0.ffn": 4, "layers.1.ffn": 8, "layers": 2}


def test_uniform_means_equal_widths_in_the_layers_that_stay() -> None:
    uneven = {"layers.0.ffn": (0, 1, 2, 5)}
    assert not Plan(uneven, Budget(0.5), "test").is_uniform(GRAPH)
    assert Plan(uneven | {"layers.1.ffn": (4, 5, 6, 7)}, Budget(0.5), "test").is_uniform(GRAPH)
    without_first = Plan(uneven | {"layers": (1,)}, Budget(0.5), "test")
    assert without_first.dropped_layers(GRAPH) == {0}
    assert without_first.is_uniform(GRAPH)


SMALL = Plan({"layers.0.ffn": (0, 1)}, Budget(0.5), "test")
DEEP = '{"a":' * 100_000


@pytest.mark.parametrize("ranges", ["0-99999999999", "5-1", "a", "1,,2", "0-", "-3", "0-9" * 99, "9" * 5000])
def test_plan_files_with_absurd_ranges(ranges: str) -> None:
    data = json.loads(SMALL.to_json()) | {"keep": {"layers.0.ffn": ranges}}
    with pytest.raises(PrunePolicyError, match="Not a list of units"):
        Plan.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"a":' * 100_000, "\ufeff{}", '{"schema_version": 1}']
)
def test_plan_files_that_are_no_plans(text: str) -> None:
    with pytest.raises(PrunePolicyError, match=r"^Not a plan: .*\.$"):
        Plan.from_json(text)


def test_plan_file_with_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(PrunePolicyError, match=r"unknown key 'fingerprnt'.* Did you mean 'fingerprint'\?"):
        Plan.from_json(json.dumps(json.loads(SMALL.to_json()) | {"fingerprnt": "x"}))
