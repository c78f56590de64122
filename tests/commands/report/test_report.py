from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from prunepolicy.commands.report.card import card
from prunepolicy.commands.report.report import PruneReport, gentler, kept_units, loading_lines
from prunepolicy.commands.report.report_view import comparisons, count, duration, printable, render, size
from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.measure.perplexity import Fidelity, TextScore
from prunepolicy.pruning.measure.speedup import Speedup
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.proof.proof import Receipt
from prunepolicy.pruning.units import UnitGraph, UnitGroup


def degraded(report: PruneReport) -> PruneReport:
    return replace(report, after=replace(report.after, score=TextScore(4.5, 90.0, 4096, 512)))


def unmeasured(report: PruneReport) -> PruneReport:
    return replace(
        report, after=replace(report.after, score=None, latency={}, samples=()), speedups={}, proof=None
    )


def printed(report: PruneReport) -> str:
    console = Console(file=io.StringIO(), width=100)
    render(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def compared(report: PruneReport) -> PruneReport:
    """What is known of a network that doesn't write text."""
    closeness = Fidelity(0.912, 0.1, 0.75)
    return replace(unmeasured(report), task="vision", text="seeded noise", fidelity=closeness)


@pytest.mark.parametrize("change", [lambda report: report, degraded, unmeasured, compared])
def test_json_round_trip(change, report: PruneReport, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    changed = change(report)
    assert PruneReport.from_json(changed.to_json()) == changed
    changed.save(tmp_path)
    assert (tmp_path / "prune_report.json").read_text() == changed.to_json()


def test_other_json_is_refused(report: PruneReport) -> None:
    data = json.loads(report.to_json())
    for broken in (
        "{",
        "[]",
        "{}",
        json.dumps(data | {"schema_version": 99}),
        json.dumps(data | {"kept": 3}),
    ):
        with pytest.raises(PrunePolicyError, match="Not a report"):
            PruneReport.from_json(broken)


def test_verdict_names_a_moderate_loss_and_the_measured_speed(report: PruneReport) -> None:
    assert not report.degraded
    assert "+20.0%" in report.verdict
    assert "Decode (per token): faster, 1.11 times as fast (1.05 to 1.18)" in report.verdict


def test_verdict_calls_a_ruined_model_degraded_and_suggests_more(report: PruneReport) -> None:
    ruined = degraded(report)
    assert ruined.degraded
    assert "Degraded" in ruined.verdict
    assert "--keep 0.9" in ruined.verdict


def test_a_perplexity_that_is_no_number_is_degraded(report: PruneReport) -> None:
    broken = replace(report, after=replace(report.after, score=TextScore(float("nan"), float("nan"), 1, 512)))
    assert broken.degraded


def test_nothing_is_claimed_that_was_not_measured(report: PruneReport) -> None:
    verdict = unmeasured(report).verdict
    for words in ("No speed was measured", "Quality wasn't measured", "Loading wasn't tested"):
        assert words in verdict
    assert not unmeasured(report).degraded


def test_networks_that_write_no_text_are_compared_by_their_outputs(report: PruneReport) -> None:
    assert "On seeded noise, outputs have a cosine of 0.912" in compared(report).verdict
    assert "same class 75% of the time" in compared(report).verdict


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (0.84, ("Accuracy on clothes's test images went from 85.00% to 84.00%.",)),
        (0.62, ("Degraded: accuracy on clothes's test images", "--keep 0.9", "--epochs")),
    ],
)
def test_classifiers_that_were_tested_are_judged_by_their_accuracy(
    report: PruneReport, after: float, words: tuple[str, ...]
) -> None:
    tested = replace(
        compared(report),
        images="clothes",
        before=replace(report.before, accuracy=0.85),
        after=replace(unmeasured(report).after, accuracy=after),
    )
    assert all(word in tested.verdict for word in words)
    assert tested.degraded == (after < 0.8)
    assert "quality was not measured" not in card(tested)


def test_a_change_within_the_error_of_what_it_was_measured_on_is_none(report: PruneReport) -> None:
    noise = replace(degraded(report), change=Interval(-0.01, 1.6))
    assert not noise.degraded
    assert "no difference shown: perplexity went from 20 to 90 (0.990 to 4.954 times, 95 %)" in noise.verdict
    assert "Degraded" in replace(noise, change=Interval(1.4, 1.6)).verdict
    tested = replace(
        noise,
        images="clothes",
        before=replace(report.before, accuracy=0.8),
        after=replace(report.after, accuracy=0.7),
        change=Interval(-0.2004, 0.0004),
    )
    assert "No difference shown: accuracy on clothes's" in tested.verdict
    assert "(-20.04 to 0.04 points, 95 %)" in tested.verdict


def test_only_an_interval_above_one_is_called_faster(report: PruneReport) -> None:
    for interval, words in (((1.02, 1.3), "faster"), ((0.7, 0.98), "slower"), ((0.98, 1.3), "no difference")):
        measured = replace(report, speedups={"Decode (per token)": Speedup(1.1, *interval)})
        assert f"Decode (per token): {words}" in measured.verdict


def test_the_suggested_keep_lies_between_the_asked_and_everything() -> None:
    for keep in (0.1, 0.5, 0.8, 0.89):
        assert keep < gentler(keep) <= 0.95


def test_kept_units_count_dropped_layers_as_gone() -> None:
    groups = tuple(UnitGroup(f"layers.{i}.ffn", "ffn", 8, "width", layer=i) for i in range(3))
    graph = UnitGraph("test", {}, (*groups, UnitGroup("layers", "layer", 3, "depth", prefix="layers.")))
    plan = Plan({"layers.0.ffn": (0, 5), "layers": (0, 2)}, Budget(0.5), "test")
    assert [units.kept for units in kept_units(graph, plan)] == [2, 0, 8, 2]


@pytest.mark.parametrize("uniform", [True, False])
def test_loading_lines_are_python(uniform: bool) -> None:
    for adapter in adapters.values():
        code = "\n".join(loading_lines(adapter, uniform))
        compile(code, "card", "exec")
        assert "{folder}" in code
        bare = loading_lines(adapter, uniform, prepared=False)
        assert bool(adapter.carries) or (len(bare) == 2 and "Tokenizer" not in bare[0])
        assert ("trust_remote_code=True" in code) == (not uniform and not adapter.carries)


def test_the_terminal_shows_numbers_samples_and_how_to_load(report: PruneReport) -> None:
    text = printed(report)
    for words in (
        "0.8x",
        "24",
        "It was | a day.",
        'from_pretrained("tiny-pruned")',
        "held-out prose",
        "clean process",
    ):
        assert words in text
    assert "4096 tokens in windows of 512" in text


def test_markup_in_a_sample_is_printed_as_it_is(report: PruneReport) -> None:
    tricky = replace(report, after=replace(report.after, samples=("[bold]loud[/bold] [/]",)))
    assert "[bold]loud[/bold] [/]" in printed(tricky)


def test_failed_proof_comes_first_in_the_verdict(report: PruneReport) -> None:
    failed = replace(report, proof=Receipt(False, True, "The folder doesn't load: sizes."))
    assert failed.verdict.startswith("The folder doesn't load")


def test_only_what_both_networks_have_is_compared(report: PruneReport) -> None:
    names = [row.name for row in comparisons(unmeasured(report))]
    assert names == ["Parameters", "FLOPs per token", "Weights", "KV cache per token"]


def test_numbers_are_written_for_readers() -> None:
    assert [count(134_515_008), count(999), count(7e12)] == ["134.5 M", "999", "7 T"]
    assert [size(2**30), size(1536), size(10)] == ["1 GiB", "1.5 KiB", "10 B"]
    assert [duration(0.0123), duration(4.2), duration(200)] == ["12.3 ms", "4.2 s", "3 min 20 s"]


def test_what_was_left_behind_is_named(report: PruneReport) -> None:
    names = {f"file-{number}\n": "a cache" for number in range(6)}
    left = replace(report, left_behind={printable(name): why for name, why in names.items()})
    console = Console(file=io.StringIO(), width=200)
    render(left, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "file-3\ufffd and 2 more (prune_report.json names all)." in shown
    assert "file-5" in card(left)
    assert PruneReport.from_json(left.to_json()).left_behind == left.left_behind


def test_a_budget_that_was_rounded_down_is_said_to_be(report: PruneReport) -> None:
    said = "No counts of whole units keep 80.0% of the layers: rounded down to 75.0%."
    rounded = replace(report, budget=Budget(0.8, "layers"), reached=0.75)
    assert said in printed(rounded)
    assert said in card(rounded)
    assert "rounded" not in printed(report) + card(report)
