"""The benchmark of choosing at run time takes an answer apart, and both ways in turn."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest

from prunepolicy.cli import main
from prunepolicy.commands.evaluate.adaptive_bench import adaptive_bench
from prunepolicy.commands.evaluate.bench import BenchRequest
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.session.opened_model import Hardware

Make = Callable[..., Checkpoint]
FLOAT32 = Hardware("cpu", "float32")
SMALL = BenchRequest(batches=(1, 2), prompt=40, new=3, repeats=5, threads=1)
PHASES = ["prefill", "choose", "gather", "decode", "answer"]


def test_an_answer_is_taken_apart(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    report = adaptive_bench(str(checkpoint.folder), "plain", 0.5, SMALL, FLOAT32)
    assert [(phase.phase, phase.batch) for phase in report.phases] == [
        (name, batch) for batch in (1, 2) for name in PHASES
    ]
    channels = 3 * 3 * 32 * 48 * 4
    assert report.extra_bytes == channels // 2
    for phase in report.phases:
        alone = phase.phase in ("choose", "gather")
        assert (phase.dense is None) == (phase.speedup is None) == alone
        assert phase.adaptive.median > 0
    prefill, choose, gather, decode, answer = (phase.adaptive.median for phase in report.phases[:5])
    assert max(prefill, choose, gather, 3 * decode) < answer
    assert json.loads(report.to_json())["phases"][1]["verdict"] is None
    console = Console(file=io.StringIO(), width=240)
    report.render(console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(word in text for word in (*PHASES, "policy plain", "keep 0.5", "threads 1", "beside"))


def test_what_makes_no_sense_is_refused(tiny_checkpoint: Make) -> None:
    folder = str(tiny_checkpoint().folder)
    with pytest.raises(UsageError, match="exceed the 64 tokens"):
        adaptive_bench(folder, "plain", 0.5, BenchRequest(prompt=60, new=5), FLOAT32)
    with pytest.raises(UsageError, match="at least 5 repeats"):
        adaptive_bench("no-such-model", request=BenchRequest(repeats=1))
    with pytest.raises(PrunePolicyError, match="has experts"):
        adaptive_bench(str(tiny_checkpoint("mixtral").folder), "plain", 0.5, SMALL, FLOAT32)


@pytest.mark.parametrize("options", [[], ["--adaptive", "--against", "other"]])
def test_the_command_compares_with_one_thing(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "model", *options]) == 2
    assert "--against MODEL" in capsys.readouterr().err


def test_the_command_prints_json(tiny_checkpoint: Make, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--policy",
        "plain",
        "--batch",
        "1",
        "--prompt",
        "40",
        "--new",
        "2",
        "--repeats",
        "5",
        "--json",
    ]
    assert main(["bench", str(tiny_checkpoint().folder), "--adaptive", *options]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["prompt"] == 40
