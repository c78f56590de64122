"""Full names, the shorter ones that stand for them, and what is refused."""

from __future__ import annotations

import pytest

from prunepolicy.policy.zoo.identifiers import PolicyId, find
from prunepolicy.pruning.errors import UsageError

KNOWN = [
    "rows.v1",
    "rows.v2",
    "graph.small-v1",
    "graph.large-v1",
    "graph.large-v2",
    "one.only-v3",
    "gates.v1",
]


@pytest.mark.parametrize("text", ["rows.v1", "llama-graph.v12", "a.b-v1", "a-b.c-d-v999999"])
def test_full_names_are_read_and_written_alike(text: str) -> None:
    assert str(PolicyId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "rows", "rows.v0", "rows.v01", "Rows.v1", "rows.v1\n", "rows.v1.v2", "rows.-v1", ".v1", "a_b.v1",
        "../a.v1", "a/b.v1", "/a.v1", "a.v1-v2", "a.x-v1-v2", "ä.v1", "a.v\u0661", "a" * 100 + ".v1",
        "a.v1234567",
    ],
)  # fmt: skip
def test_what_is_no_full_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"NAME\.vN or NAME\.TAG-vN") as caught:
        PolicyId.parse(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        ("rows.v1", "rows.v1"), ("gates", "gates.v1"), ("one", "one.only-v3"), ("one.only", "one.only-v3"),
        ("graph.small", "graph.small-v1"), ("graph.large-v2", "graph.large-v2"), ("graph.v1", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_part_of_the_name_stands_for_the_only_policy_it_fits(spelling: str, meant: str | None) -> None:
    assert find(spelling, KNOWN) == meant


@pytest.mark.parametrize(
    ("spelling", "all_of_them"),
    [
        ("rows", "rows.v1, rows.v2"),
        ("graph.large", "graph.large-v1, graph.large-v2"),
        ("graph", "graph.small-v1, graph.large-v1, graph.large-v2"),
    ],
)
def test_ambiguity_is_refused_with_all_spellings(spelling: str, all_of_them: str) -> None:
    with pytest.raises(UsageError, match=all_of_them.replace(".", r"\.")):
        find(spelling, KNOWN)
