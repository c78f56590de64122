"""Cards of invented runs: what they say, and that they survive their file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from prunepolicy.agents.learned_pruning.policy_card import PolicyCard, read_card
from prunepolicy.agents.learned_pruning.policy_card_text import policy_card, write_policy_card
from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.measure.intervals import Interval

MakeReport = Callable[..., TrainReport]


def test_a_card_survives_its_file(invented: MakeReport, tmp_path: Path) -> None:
    card = invented(0.9).card
    write_policy_card(card, tmp_path)
    assert read_card(tmp_path) == card
    assert (tmp_path / "README.md").read_text() == policy_card(card)


@pytest.mark.parametrize(
    ("learned", "word"), [(0.9, "beats"), (0.99, "ties"), (1.01, "ties"), (1.1, "loses")]
)
def test_the_word_is_that_of_the_sentence(invented: MakeReport, learned: float, word: str) -> None:
    card = invented(learned).card
    assert card.word == word
    assert card.best_heuristic == "fisher"
    assert policy_card(card).startswith(f"**{card.verdict}**")


@pytest.mark.parametrize("learned", [0.5, 1.5])
def test_a_difference_within_the_error_of_the_text_is_none(invented: MakeReport, learned: float) -> None:
    for (low, high), word in (((-0.6, 0.6), "ties"), ((-0.6, -0.4), "beats"), ((0.4, 0.6), "loses")):
        report = replace(invented(learned), differences={"fisher": Interval(low, high)})
        if word == "ties" or (learned < 1) == (word == "beats"):
            assert report.word == word
            assert f"difference {low:.4f} to {high:.4f}" in report.verdict
            assert ("No difference shown" in report.verdict) == (word == "ties")


@pytest.mark.parametrize(("learned", "policy"), [(0.9, "runs/run"), (1.5, "fisher")])
def test_the_line_after_the_verdict_is_the_command_that_uses_it(
    invented: MakeReport, learned: float, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = invented(learned)
    report.render(Console(width=40))
    lines = capsys.readouterr().out.splitlines()
    after = lines[lines.index(report.verdict) + 1]
    assert after == f"Use it: prune-with-policy m --policy {policy} --keep 0.8 --of ffn --out smaller/"
    second = policy_card(report.card).split("\n\n")[1]
    assert ("prune-with-policy MODEL --policy fisher --keep 0.8 --of ffn" in second) == (policy == "fisher")


def test_a_policy_compared_with_nothing_says_so(invented: MakeReport) -> None:
    card = invented(0.9, fisher=None).card
    assert (card.word, card.best_heuristic, card.failures) == ("alone", None, ())
    assert "compared with nothing" in policy_card(card)


def test_failures_are_the_places_where_a_heuristic_is_better(invented: MakeReport) -> None:
    report = invented(0.9)
    report.scores["run"]["m, keep 0.7 of ffn"] = 1.5
    (failure,) = report.card.failures
    assert (failure.where, failure.heuristic, failure.score) == ("m, keep 0.7 of ffn", "fisher", 1.5)
    assert "keep 0.7 of ffn: 1.5000, while fisher reaches 1.0000" in policy_card(report.card)
    assert "At no model and budget" in policy_card(invented(0.9).card)


def test_infinite_scores_are_written_and_read(invented: MakeReport, tmp_path: Path) -> None:
    write_policy_card(invented(float("inf")).card, tmp_path)
    assert read_card(tmp_path).learned.mean.median == float("inf")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"schema_version": 1', '"schema_version": 2', "schema_version"),
        ('"name"', '"nam"', "card.json is no card"),
        ('"word": "beats"', '"word": "wins"', "word"),
        ("{", "", "card.json is no card"),
    ],
)
def test_damaged_cards_are_refused_in_one_sentence(
    invented: MakeReport, tmp_path: Path, old: str, new: str, words: str
) -> None:
    write_policy_card(invented(0.9).card, tmp_path)
    file = tmp_path / "card.json"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(PrunePolicyError, match=words) as caught:
        read_card(tmp_path)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(PrunePolicyError, match="No such file"):
        read_card(tmp_path)


def test_a_card_of_json_alone_is_enough_for_the_text(invented: MakeReport) -> None:
    card = invented(0.9).card
    assert policy_card(PolicyCard.model_validate_json(card.model_dump_json())) == policy_card(card)
