"""Choices that follow the user's text, from the command to the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prunepolicy import Budget, PruneSettings, prune
from prunepolicy.agents.for_text.examples import examples_file
from prunepolicy.cli import main
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.text_ahead import LENGTH, PLACES

Model = Callable[..., str]
HALF = Budget(0.5, "ffn")
QUICKLY = PruneSettings(hardware=Hardware("cpu", "float32"), verify=False)
FRENCH, CODE = "le chat est sur la table. " * 80, "int main(void) { return 0; }\n" * 80


def pruned(model: str, text: str, place: Path, settings: PruneSettings = QUICKLY) -> PruneReport:
    file = place.with_suffix(".txt")
    file.write_text(text)
    return prune(model, place, HALF, settings=replace(settings, examples=str(file)))


def test_other_texts_keep_other_channels_and_the_report_says_what_reading_is_worth(
    model: Model, tmp_path: Path
) -> None:
    name = model()
    french, code = (pruned(name, text, tmp_path / text[:3]) for text in (FRENCH, CODE))
    kept = [(tmp_path / text[:3] / "plan.json").read_text() for text in (FRENCH, CODE)]
    assert kept[0] != kept[1]
    assert french.reading is not None
    assert french.reading.tokens == len(FRENCH)
    assert french.reading.held_back == 512
    assert set(french.reading.on_text) == {"text", "plain", "generic"}
    assert french.reading.sentence in (tmp_path / FRENCH[:3] / "README.md").read_text()
    assert PruneReport.read(tmp_path / CODE[:3]).reading == code.reading


def test_few_tokens_fall_back_to_the_choice_for_all_kinds_and_say_what_would_be_enough(
    model: Model, tmp_path: Path
) -> None:
    name = model()
    report = pruned(name, "too short", tmp_path / "few")
    assert report.reading is None
    assert any("9 tokens; at least 32" in warning for warning in report.warnings)
    assert report.kept == prune(name, tmp_path / "default", HALF, settings=QUICKLY).kept


def test_a_task_in_words_is_written_out_once_and_gives_the_same_bytes(model: Model, tmp_path: Path) -> None:
    name, settings = model(), replace(QUICKLY, examples="answer tickets about invoices", measure=False)
    for place in ("1", "2"):
        prune(name, tmp_path / place, HALF, settings=settings)
    first, second = ((tmp_path / place / "model.safetensors").read_bytes() for place in ("1", "2"))
    assert first == second


@pytest.mark.parametrize("wanted", ["exmaples.txt", "./my texts/a b.txt", "invoices", "two words"])
def test_what_is_neither_a_file_nor_a_task_is_refused(wanted: str) -> None:
    with pytest.raises(UsageError, match="--for takes a file"):
        examples_file(wanted)


def test_folders_and_binary_files_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "a.txt"
    for content in (b"\xff\xfe\x00", b"text with a \0 in it"):
        binary.write_bytes(content)
        with pytest.raises(UsageError, match="Can't read the text of --for"):
            examples_file(str(binary))
    with pytest.raises(UsageError, match="directory"):
        examples_file(str(tmp_path))


def test_policies_that_read_no_text_and_widths_by_layer_are_refused_before_anything_runs(
    model: Model, tmp_path: Path
) -> None:
    settings = replace(QUICKLY, examples="answer tickets about invoices")
    policy = Heuristic(HeuristicConfig(criterion="fisher"), "fisher")
    with pytest.raises(UsageError, match="reads no text"):
        prune(model(), tmp_path / "out", HALF, policy, settings)
    with pytest.raises(UsageError, match="equal widths"):
        prune(model(), tmp_path / "out", replace(HALF, uniform=False), settings=settings)


def test_by_default_the_model_goes_on_with_the_text_and_the_blend_is_one_option_away(
    model: Model, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_text(FRENCH)
    settings = replace(QUICKLY, examples=str(file), measure=False)
    name, kept = model(), {}
    for policy in ("default", "ahead", "blend"):
        report = prune(name, tmp_path / policy, HALF, policy, settings)
        kept[policy] = (tmp_path / policy / "model.safetensors").read_bytes()
        assert report.origin.made_by == ("ahead" if policy == "default" else policy)
    assert kept["default"] == kept["ahead"] != kept["blend"]


def test_the_repair_reads_what_the_model_goes_on_with_too(model: Model, tmp_path: Path) -> None:
    name, few = model(), FRENCH[:60]
    report = pruned(name, few, tmp_path / "out", replace(QUICKLY, measure=False))
    probe = Probe(**Plan.load(tmp_path / "out" / "plan.json").settings["probe"])
    assert probe.file is not None
    assert probe.written == "varied"
    text = probe.file.read_text()
    assert text.startswith(few)
    assert len(text) > len(few) + PLACES * LENGTH / 2
    assert report.origin.repair == "reconstruction"
    assert report.origin.texts == ("--probe", probe.source)
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"plan.json --probe {probe.source} --out OUT" in page
    again = [
        "cut",
        name,
        str(tmp_path / "out/plan.json"),
        *report.origin.texts,
        "--out",
        str(tmp_path / "OUT"),
    ]
    assert main([*again, "--dtype", "float32", "--no-verify", "--no-measure"]) == 0
    again, whole = (tmp_path / place / "model.safetensors" for place in ("OUT", "out"))
    assert again.read_bytes() == whole.read_bytes()
