"""A benchmark times both models in turn and claims no more than its interval allows."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prunepolicy.commands.evaluate.bench import (
    BenchReport,
    BenchRequest,
    bench,
    example_inputs,
    limit_sentence,
)
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel

Make = Callable[..., Checkpoint]
FLOAT32 = Hardware("cpu", "float32")
SMALL = BenchRequest(batches=(1, 2), prompt=16, new=2, repeats=5, threads=1)


@pytest.fixture(autouse=True)
def _small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunepolicy.pruning.measure.latency.COPY_BYTES", 1 << 20)
    monkeypatch.setattr("prunepolicy.pruning.measure.latency.MATMUL_SIZE", 64)


def shown(report: BenchReport) -> str:
    console = Console(file=io.StringIO(), width=240)
    report.render(console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_much_deeper_model_is_slower_and_the_ratios_are_exact(
    tiny_checkpoint: Make, tmp_path: Path
) -> None:
    shallow = tiny_checkpoint(num_hidden_layers=1).folder.rename(tmp_path / "shallow")
    deep = tiny_checkpoint(num_hidden_layers=24).folder.rename(tmp_path / "deep")
    report = bench(str(shallow), str(deep), SMALL, FLOAT32)
    rows = [(row.phase, row.batch, row.tokens) for row in report.measurements]
    assert rows == [("prefill", 1, 16), ("decode", 1, 1), ("prefill", 2, 32), ("decode", 2, 2)]
    assert {row.speedup.verdict for row in report.measurements} == {"faster"}
    assert all(row.speedup.ratio > 2 for row in report.measurements)
    layer = 4 * 32 * 32 - 2 * 16 * 32 + 3 * 48 * 32
    head = 64 * 32
    assert report.flop_ratio == pytest.approx((24 * layer + head) / (layer + head))
    data = json.loads(report.to_json())
    assert data["measurements"][1]["verdict"] == "faster"
    text = shown(report)
    assert all(word in text for word in ("prefill", "decode", "faster", "GFLOP/s", "GB/s", "threads 1"))


def test_models_that_read_images_are_timed_forward(tiny_checkpoint: Make, tmp_path: Path) -> None:
    first = tiny_checkpoint("cifar_resnet").folder.rename(tmp_path / "first")
    second = tiny_checkpoint("cifar_resnet").folder.rename(tmp_path / "second")
    report = bench(str(first), str(second), BenchRequest(batches=(2,), repeats=5), FLOAT32)
    assert [(row.phase, row.tokens) for row in report.measurements] == [("forward", 2)]
    assert (report.flop_ratio, report.byte_ratio) == (1, 1)


def test_inputs_depend_on_the_seed_alone(tiny_checkpoint: Make) -> None:
    opened = OpenedModel.named(str(tiny_checkpoint().folder), FLOAT32)
    first, again = (example_inputs(opened, 2, SMALL)["input_ids"] for _ in range(2))
    assert first.equal(again)
    assert not first.equal(example_inputs(opened, 2, BenchRequest(prompt=16, seed=1))["input_ids"])


@pytest.mark.parametrize(
    ("compute", "memory", "word"),
    [
        (0.1, 0.8, "memory bandwidth, so fewer weight bytes"),
        (0.7, 0.1, "fewer FLOPs"),
        (0.1, 0.2, "neither is near"),
    ],
)
def test_the_limit_is_named_by_what_was_reached(compute: float, memory: float, word: str) -> None:
    assert word in limit_sentence(compute, memory)


@pytest.mark.parametrize(
    "senseless",
    [BenchRequest(repeats=4), BenchRequest(batches=(0,)), BenchRequest(batches=()), BenchRequest(new=0)],
)
def test_senseless_requests_are_refused_before_anything_loads(senseless: BenchRequest) -> None:
    with pytest.raises(UsageError, match="at least"):
        bench("no-such-model", "nor-this", senseless)


def test_models_of_different_kinds_are_refused(tiny_checkpoint: Make) -> None:
    reads, sees = (str(tiny_checkpoint(kind).folder) for kind in ("llama", "cifar_resnet"))
    with pytest.raises(UsageError, match="are models for different tasks"):
        bench(reads, sees, SMALL, FLOAT32)


def test_more_tokens_than_the_model_reads_are_refused(tiny_checkpoint: Make) -> None:
    folder = str(tiny_checkpoint().folder)
    with pytest.raises(UsageError, match="exceed the 64 tokens"):
        example_inputs(OpenedModel.named(folder, FLOAT32), 1, BenchRequest(prompt=60, new=5))
