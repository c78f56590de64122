"""The published values of every term."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from prunepolicy.envs.thinking.groups import group_advantages
from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.terms import terms
from prunepolicy.pruning.errors import PrunePolicyError

THINK, ANSWER, ABSTAIN = Mode.THINK, Mode.ANSWER, Mode.ABSTAIN
CASES = ((THINK, True), (THINK, False), (ANSWER, True), (ANSWER, False))


def rollouts(mode: list[int], correct: list[bool], length: Any = None, **more: Any) -> Rollouts:
    group = more.pop("group", [0] * len(mode))
    return Rollouts.of(group, mode, correct, length or [100] * len(mode), **more)


def paid(name: str, table: Rollouts, **settings: Any) -> list[float]:
    return terms[name](**settings).shape(table, np.zeros(len(table))).tolist()


def at_share(thinking: float, **more: Any) -> Rollouts:
    """Four rows to look at, and so many more that `thinking` of all 400 think."""
    fill = [THINK] * round(400 * thinking - 2) + [ANSWER] * round(400 * (1 - thinking) - 2)
    modes, correct = [case[0] for case in CASES] + fill, [case[1] for case in CASES] + [True] * len(fill)
    return rollouts(modes, correct, **more)


def test_naive_pays_most_for_what_is_right_at_once() -> None:
    modes, correct = map(list, zip(*CASES, strict=True))
    assert paid("naive", rollouts(modes, correct)) == [1, 0, 2, -1]
    unread = rollouts([THINK, ANSWER, ABSTAIN], [False] * 3, well_formed=[False, False, True])
    assert paid("naive", unread) == [0, 0, 0]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.5, [1, 0, 2, -1]),
        (0.75, [0.5, -0.5, 2, -1]),
        (0.995, [0.01, -0.99, 2, -1]),
        (0.25, [1, 0, 1.5, -1.5]),
        (0.005, [1, 0, 1.01, -1.99]),
    ],
)
def test_balance_has_its_golden_values_at_every_share(share: float, expected: list[float]) -> None:
    table = at_share(share)
    naive = np.array(paid("naive", table))
    assert terms["balance"]().shape(table, naive)[:4] == pytest.approx(expected)


@pytest.mark.parametrize(("mode", "expected"), [(THINK, [0, -1]), (ANSWER, [1, -2])])
def test_balance_in_batches_of_one_mode(mode: int, expected: list[float]) -> None:
    table = rollouts([mode, mode], [True, False])
    assert terms["balance"]().shape(table, np.array(paid("naive", table))).tolist() == expected


@pytest.mark.parametrize("share", np.linspace(0.01, 0.99, 15))
def test_balance_after_naive_subtracts_one_number_per_mode(share: float) -> None:
    table = at_share(round(share * 400) / 400)
    naive = np.array(paid("naive", table))
    taken = naive - terms["balance"]().shape(table, naive)
    z = table.thinks.mean()
    assert taken[table.thinks] == pytest.approx(min(1, max(0, 2 * (z - 0.5))))
    assert taken[table.answers] == pytest.approx(min(1, max(0, 2 * (0.5 - z))))


def test_gamma_is_a_cap_of_both_modes_or_a_target_of_thinking() -> None:
    cap, target = (terms["balance"](gamma=0.2, reading=reading) for reading in ("cap", "target"))
    assert cap.penalties(0.5, 0.5) == pytest.approx((0.6, 0.6))
    assert target.penalties(0.5, 0.5) == pytest.approx((0.6, 0.0))
    assert cap.penalties(0.1, 0.9) == pytest.approx((0.0, 1.0))
    assert target.penalties(0.1, 0.9) == pytest.approx((0.0, 0.2))


def test_balance_charges_unreadable_answers_from_zero() -> None:
    table = rollouts([ANSWER] * 4, [False] * 4, well_formed=[False] * 4)
    assert terms["balance"]().shape(table, np.zeros(4)).tolist() == [-2.0] * 4


def test_a_running_share_starts_neutral_and_follows_batches() -> None:
    term, alone = terms["balance"](share="running", decay=0.5), rollouts([THINK], [True])
    assert term.shape(alone, np.ones(1)).tolist() == [1.0]
    for _ in range(2):
        term.observe(alone)
    assert term.state() == {"running": 0.875}
    assert term.shape(alone, np.ones(1)).tolist() == [0.25]


@pytest.mark.parametrize("share", [0.1, 0.8, 1.0])
def test_balance_changes_no_advantage_in_groups_of_one_mode(share: float) -> None:
    generator = np.random.default_rng(0)
    mode = np.repeat(generator.random(50) < share, 8).astype(int)
    table = Rollouts.of(np.repeat(np.arange(50), 8), mode, generator.random(400) < 0.5, np.ones(400))
    naive = np.array(paid("naive", table))
    balanced = terms["balance"]().shape(table, naive)
    assert np.abs(balanced - naive).max() > 0.1
    np.testing.assert_allclose(
        group_advantages(balanced, table.group), group_advantages(naive, table.group), atol=1e-9
    )
    mixed = Rollouts.of(table.group, generator.random(400) < 0.8, table.correct, table.length)
    naive = np.array(paid("naive", mixed))
    moved = group_advantages(terms["balance"]().shape(mixed, naive), mixed.group)
    assert np.abs(moved - group_advantages(naive, mixed.group)).max() > 0.1


def test_length_is_standardised_among_the_right_and_among_the_wrong() -> None:
    table = rollouts(
        [THINK, ANSWER, THINK, THINK, THINK, THINK],
        [True, True, True, False, False, True],
        [10, 20, 30, 50, 70, 5],
        group=[0, 0, 0, 0, 0, 1],
    )
    half = 1 / math.sqrt(2)
    expected = [
        math.exp(0.05) - 1,
        0,
        math.exp(-0.05) - 1,
        1 - math.exp(0.05 * half),
        1 - math.exp(-0.05 * half),
        0,
    ]
    assert paid("length_aware", table) == pytest.approx(expected)
    same = rollouts([THINK] * 3, [True] * 3, [7, 7, 7])
    assert paid("length_aware", same) == [0, 0, 0]


def test_lengths_count_only_where_prompts_are_solved_often_enough() -> None:
    right = [True, True, True, True, True, False]
    table = rollouts([THINK] * 6, right, [10, 20, 30, 10, 20, 30], group=[0, 0, 0, 1, 1, 1])
    for solved, counts in ((0.5, 5), (2 / 3, 5), (0.7, 3), (1.0, 3)):
        gained = paid("length_aware", table, solved=solved)
        assert [value != 0 for value in gained] == [True, False, True] + [counts == 5] * 2 + [False]


def test_lengths_wait_while_either_mode_is_too_often_wrong() -> None:
    term = terms["length_aware"](floor=0.7, decay=0.5)

    def batch(right: list[bool]) -> Rollouts:
        return rollouts([THINK, THINK, ANSWER, ABSTAIN], [*right, True, False], [10, 30, 5, 1])

    solved, half = batch([True, True]), batch([True, False])
    counts = []
    for table in (solved, solved, half, half, solved, solved):
        counts.append(bool(np.any(term.shape(solved, np.zeros(4)))))
        term.observe(table)
    # Thinking is right in 1, 1, 0.75, 0.625, 0.8125 of its rollouts, as the term remembers it.
    assert counts == [False, True, True, True, False, True]
    again = terms["length_aware"](floor=0.7, decay=0.5)
    again.restore(json.loads(json.dumps(term.state())))
    assert again.state() == term.state() == {"accuracy": {"ANSWER": 1.0, "THINK": 0.90625}}


def test_ternary_pays_more_for_abstaining_than_for_an_error() -> None:
    table = rollouts([THINK, ABSTAIN, ANSWER], [True, False, False])
    assert paid("ternary", table) == [1, 0, -1]
    assert paid("ternary", table, abstain=0.2) == [1, 0.2, -1]


def test_degenerate_failures_alone_are_punished() -> None:
    term = terms["degeneracy"]()
    table = rollouts([ANSWER, ANSWER, THINK], [False, False, True], degenerate=[True, False, True])
    assert term.shape(table, np.array([-1.0, -1.0, 1.0])).tolist() == [-2, -1, 1]


def test_neighbours_of_autothink_pay_as_published() -> None:
    modes, correct = map(list, zip(*CASES, strict=True))
    table = rollouts(modes, correct, reference=[0.75] * 4)
    assert paid("thinkless", table) == [0.5, -1, 1, -1]
    assert paid("adapt_think", table) == pytest.approx([0.25, -0.75, 0.3, -0.7])
    assert paid("correctness", table) == [1, 0, 1, 0]


def test_length_terms_of_the_neighbours() -> None:
    table = rollouts([THINK] * 3, [True, True, False], [500, 3000, 1000], budget=[1000, 1000, np.inf])
    assert paid("lcpo", table) == pytest.approx([1 - 0.15, 1 - 0.6, 0])
    assert paid("lcpo", table, form="max") == pytest.approx([0.65, 0, 0])
    assert paid("think_prune", table, limit=2000) == [1, 0, 0]
    assert paid("shorter_better", table) == pytest.approx([2, 2 - 2.5, -0.5])
    wrong = rollouts([THINK] * 2, [False] * 2, [100, 300])
    assert paid("shorter_better", wrong) == pytest.approx([-0.1, -0.1])
    assert paid("brevity", table) == pytest.approx([-0.05, -0.3, -0.1])


def test_cosine_goes_from_end_to_end() -> None:
    table = rollouts([THINK] * 6, [True] * 3 + [False] * 3, [0, 500, 2000] * 2)
    assert paid("cosine", table) == pytest.approx([1, 0.75, 0.5, -1, -0.75, -0.5])


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"mode": [0, 7]}, "Modes"),
        ({"length": [1.0, -1.0]}, "negative"),
        ({"length": [1.0, np.nan]}, "finite"),
        ({"budget": [0.0, 1.0]}, "budget"),
        ({"correct": [True]}, "correct of 2"),
        ({"well_formed": [False, True]}, "couldn't be read"),
        ({"lenght": [1, 2]}, "no column 'lenght'"),
    ],
)
def test_tables_that_make_no_sense_are_refused(columns: dict[str, list[float]], what: str) -> None:
    whole = {"group": [0, 0], "mode": [0, 1], "correct": [True, False], "length": [1.0, 2.0]}
    with pytest.raises(PrunePolicyError, match=what):
        Rollouts.of(**{**whole, **columns})  # type: ignore[arg-type]
