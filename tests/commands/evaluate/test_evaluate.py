"""Two models are scored in one run; what can't be measured says why."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunepolicy.commands.evaluate.evaluate import EvalReport, EvalRequest, evaluate
from prunepolicy.commands.evaluate.score import Measured, Score
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UnsupportedModelError, UsageError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.measure.perplexity import WindowLosses
from prunepolicy.pruning.session.opened_model import Hardware

Make = Callable[..., Checkpoint]
FLOAT32 = Hardware("cpu", "float32")
LINES = [
    {"goal": f"Question {i}", "sol1": f"Do {i}.", "sol2": f"Don't do {i * i}.", "label": i % 2}
    for i in range(6)
]
OWN_TASK = """
task: own_choices
dataset_path: json
dataset_kwargs:
  data_files: {file}
output_type: multiple_choice
test_split: train
doc_to_text: "Question: {{{{goal}}}}\\nAnswer:"
doc_to_target: label
doc_to_choice: "{{{{[sol1, sol2]}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture
def models(tmp_path: Path, tiny_checkpoint: Make, byte_tokenizer: Any) -> tuple[str, str]:
    """Two tiny models with tokenizers; the second has fewer channels."""
    names = []
    for name, channels in (("dense", 48), ("pruned", 32)):
        folder = tiny_checkpoint(vocab_size=258, intermediate_size=channels).folder
        byte_tokenizer.save_pretrained(folder)
        names.append(str(folder.rename(tmp_path / name)))
    return names[0], names[1]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, LINES)))
    return file


def test_both_models_stand_side_by_side(models: tuple[str, str], questions: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("It was a bright cold day in April, and the clocks were striking thirteen.")
    dense, pruned = models
    report = evaluate(pruned, EvalRequest((text,), (questions,), window=32), dense, FLOAT32)
    assert list(report.scores) == [dense, pruned]
    for scores in report.scores.values():
        assert [(s.task, s.metric, s.n) for s in scores] == [
            ("text.txt", "perplexity", 73),
            ("questions.jsonl", "acc", 6),
            ("questions.jsonl", "acc_norm", 6),
        ]
    assert report.scores[dense] != report.scores[pruned]
    assert report.settings["dtype"] == "float32"
    data = json.loads(report.to_json())
    assert set(data) == {"scores", "settings", "versions", "changes"}
    assert set(data["scores"][dense][0]) == {"task", "metric", "value", "n", "stderr"}
    for (first, last), null, (low, high) in zip(
        zip(*report.scores.values(), strict=True), (1, 0, 0), data["changes"], strict=True
    ):
        assert low < (last.value / first.value if null else last.value - first.value) < high
        assert low < null < high, "six questions and three windows show nothing"
    console = Console(file=io.StringIO(), width=200)
    report.render(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(word in shown for word in (dense, pruned, "change", "perplexity", "float32", "±"))


def test_harness_tasks_from_a_local_folder_agree_with_our_own(
    models: tuple[str, str], questions: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "own.yaml").write_text(OWN_TASK.format(file=questions))
    request = EvalRequest(choices=(questions,), tasks=("own_choices",), include_path=tasks)
    ours_acc, ours_norm, *theirs = evaluate(models[0], request, hardware=FLOAT32).scores[models[0]]
    by_metric = {score.metric: score for score in theirs}
    for ours, metric in ((ours_acc, "acc"), (ours_norm, "acc_norm")):
        assert by_metric[metric].value == pytest.approx(ours.value)
        assert by_metric[metric].stderr == pytest.approx(ours.stderr)
        assert by_metric[metric].n == 6


def test_the_extra_is_named_when_the_harness_is_missing(
    models: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(PrunePolicyError, match=r"pip install 'prunepolicy\[eval\]'"):
        evaluate(models[0], EvalRequest(tasks=("piqa",)), hardware=FLOAT32)


def test_nothing_to_measure_is_an_error_before_anything_loads() -> None:
    with pytest.raises(UsageError, match="Say what to measure: --text FILE"):
        evaluate("no-such-model", EvalRequest())
    with pytest.raises(UsageError, match="at least 1; got 0"):
        evaluate("no-such-model", EvalRequest(tasks=("piqa",), batch=0))


def test_models_that_write_no_text_are_refused(tiny_checkpoint: Make, questions: Path) -> None:
    folder = tiny_checkpoint("cifar_resnet").folder
    with pytest.raises(UnsupportedModelError, match="isn't a causal language model"):
        evaluate(str(folder), EvalRequest(choices=(questions,)), hardware=FLOAT32)


def test_a_missing_or_binary_text_is_named(models: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no file .*none\.txt"):
        evaluate("no-such-model", EvalRequest((tmp_path / "none.txt",)), hardware=FLOAT32)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match=r"Can't read the text .*binary\.txt"):
        evaluate(models[0], EvalRequest((tmp_path / "binary.txt",)), hardware=FLOAT32)


def test_a_change_within_the_error_is_no_difference() -> None:
    scores = [Score("arc", "acc", value, 400, 0.025) for value in (0.50, 0.51, 0.60)]
    before, same, better = map(Measured, scores)
    for after, said in (
        (same, "no difference shown, change -0.060 to 0.080"),
        (better, "a difference, change 0.030 to 0.170"),
    ):
        report = EvalReport(
            {"dense": (before.score,), "pruned": (after.score,)}, {}, {}, (after.change_from(before),)
        )
        console = Console(record=True, width=120, file=io.StringIO())
        report.render(console)
        assert said in console.export_text()


def test_perplexities_of_differing_tokenizers_have_no_interval() -> None:
    first, last = (WindowLosses(np.ones(n), np.full(n, 9), 10) for n in (3, 4))
    score = Score("text", "perplexity", 3.0, 27)
    assert Measured(score, last).change_from(Measured(score, first)) is None
