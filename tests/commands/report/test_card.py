from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from prunepolicy.commands.report.card import card, fenced, front_matter, serving_commands, write_card
from prunepolicy.commands.report.report import KeptUnits, PruneReport


def test_front_matter_is_what_the_hub_reads(report: PruneReport) -> None:
    data = ModelCard(card(report)).data
    assert data.base_model == "acme/tiny"
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-generation"
    assert data.license == "apache-2.0"
    assert "pruned" in data.tags


def test_unknown_metadata_is_left_out(report: PruneReport) -> None:
    origin = replace(report.origin, base_model=None, licence=None)
    front = yaml.safe_load(card(replace(report, origin=origin)).split("---")[1])
    assert set(front) == {"library_name", "pipeline_tag", "tags", "model-index"}


def test_the_hub_shows_what_was_measured(report: PruneReport) -> None:
    (result,) = ModelCard(card(report)).data.eval_results
    assert (result.metric_type, result.metric_value) == ("perplexity", 24.0)
    assert result.dataset_name == report.text
    assert "dense model: 20" in result.metric_name
    unmeasured = replace(report, after=replace(report.after, score=None))
    assert "model-index" not in front_matter(unmeasured)


def test_the_card_states_budget_evidence_proof_and_how_to_repeat(report: PruneReport) -> None:
    text = card(report)
    for words in (
        "keep 80.0% of the parameters, kept 80.0%",
        "| Perplexity | 20 | 24 | 1.2x |",
        "4096 tokens in windows of 512",
        "A clean process loads it.",
        "same tokens with and without a cache",
        report.origin.command,
        report.origin.fingerprint,
        "transformers 5.23.0",
        "plan.json",
        "| 0 to 1 | 32 of 64 |",
        "| 2 | removed |",
        "| layers | 4 | 3 | 75.0% |",
    ):
        assert words in text, words


def test_the_card_claims_nothing_that_was_not_measured(report: PruneReport) -> None:
    bare = replace(report, proof=None, after=replace(report.after, score=None, latency={}, samples=()))
    text = card(bare)
    for words in ("none was made", "quality was not measured", "speed was not measured"):
        assert words in text
    assert "| Perplexity" not in text


def test_convolution_networks_list_their_channel_groups(report: PruneReport) -> None:
    channels = (KeptUnits("features.0", "channel", None, 64, 48),)
    assert "| features.0 | 48 of 64 |" in card(replace(report, kept=channels, task="vision"))


def test_samples_cannot_break_the_page(report: PruneReport) -> None:
    nasty = "```\n---\n# heading\n| cell"
    text = card(replace(report, after=replace(report.after, samples=(nasty,))))
    assert not any(line.startswith(("# heading", "```\n---")) for line in text.splitlines())
    assert fenced("a ``` b", "sh").startswith("````sh")


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, True),
        ({"uniform": False}, False),
        ({"model_type": "opt"}, False),
        ({"task": "vision"}, False),
        ({"model_type": "qwen2", "kept": (KeptUnits("layers.0.kv_heads", "kv_head", 0, 4, 2),)}, False),
        ({"model_type": "llama", "kept": (KeptUnits("layers.0.kv_heads", "kv_head", 0, 4, 2),)}, True),
    ],
)
def test_serving_commands_appear_only_for_shapes_that_allow_them(
    changes: dict[str, object], served: bool, report: PruneReport
) -> None:
    changed = replace(report, **changes)  # type: ignore[arg-type]
    assert bool(serving_commands(changed)) == served
    assert ("vllm serve" in card(changed)) == served


def test_the_card_is_written_and_always_the_same(report: PruneReport, tmp_path: Path) -> None:
    write_card(report, tmp_path)
    again = PruneReport.from_json(report.to_json())
    assert (tmp_path / "README.md").read_text() == card(again)
