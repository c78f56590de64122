"""A draft is measured by what the model accepts, and never changes what the model writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prunepolicy.cli import main
from prunepolicy.commands.evaluate.draft import DraftReport, DraftRequest, draft_bench
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.measure.speedup import Speedup
from prunepolicy.pruning.session.opened_model import Hardware

Make = Callable[..., Checkpoint]
REQUEST = DraftRequest(prompts=3, length=6, new=12)
EXACT = Hardware("cpu", "float32")


@pytest.fixture
def made(tiny_checkpoint: Make, tmp_path: Path) -> Callable[..., str]:
    """A function that returns the folder of another random model at every call."""

    def make(model_type: str = "llama", **changes: int) -> str:
        folder = tiny_checkpoint(model_type, **changes).folder
        return str(folder.rename(tmp_path / f"model-{len(list(tmp_path.iterdir()))}"))

    return make


@pytest.fixture
def model(made: Callable[..., str]) -> str:
    return made()


def test_a_model_accepts_all_that_it_would_have_written_itself(model: str) -> None:
    report = draft_bench(model, model, REQUEST, EXACT)
    assert report.acceptance == pytest.approx(1.0, abs=0.05)
    assert report.agreement == 1.0
    assert 1.5 < report.per_pass <= REQUEST.new


def test_another_model_is_accepted_less_and_changes_nothing(model: str, made: Callable[..., str]) -> None:
    report = draft_bench(made(hidden_size=48), model, REQUEST, EXACT)
    assert 0 <= report.acceptance < 0.9
    assert report.agreement == 1.0
    assert 1 <= report.per_pass < 3


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(1.1, 1.4, "it pays"), (0.7, 0.9, "Don't use it as a draft"), (0.9, 1.2, "no gain")],
)
def test_it_is_never_advised_where_it_was_not_shown_to_be_faster(low: float, high: float, words: str) -> None:
    gain = Speedup((low + high) / 2, low, high)
    report = DraftReport("small", "large", 8, 0.5, Interval(0.4, 0.6), 2.0, 1.0, gain)
    assert words in report.verdict


def test_models_that_do_not_fit_are_wrong_usage(model: str, made: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="knows 80 tokens and"):
        draft_bench(made(vocab_size=80), model, REQUEST, EXACT)
    with pytest.raises(UsageError, match="must not exceed the"):
        draft_bench(model, model, DraftRequest(length=5000), EXACT)
    with pytest.raises(UsageError, match="needs models that write text"):
        draft_bench(made("bert"), model, REQUEST, EXACT)


def test_the_command_prints_json_and_refuses_other_measurements(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prunepolicy.commands.evaluate.draft.DraftRequest", lambda **named: REQUEST)
    assert main(["eval", model, "--as-draft-of", model, "--dtype", "float32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["acceptance"] == pytest.approx(1.0, abs=0.05)
    assert found["verdict"]
    assert main(["eval", model, "--as-draft-of", model, "--tasks", "piqa"]) == 2
