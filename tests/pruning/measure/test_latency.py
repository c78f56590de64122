"""Timings are taken in turn, ratios get intervals, and only a clear ratio is called faster."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.measure.latency import interleaved, measure_ceilings, threads, time_model
from prunepolicy.pruning.measure.speedup import speedup, spread

Make = Callable[..., Checkpoint]
CPU = torch.device("cpu")


def test_runs_alternate_and_the_warm_up_is_thrown_away() -> None:
    calls: list[str] = []

    def run(name: str) -> Callable[[], int]:
        def call() -> int:
            calls.append(name)
            return len(calls)

        return call

    assert interleaved([run("a"), run("b")], repeats=2) == [[3, 6], [4, 5]]
    assert "".join(calls) == "ab" + "ab" + "ba"


def test_reading_and_writing_are_timed_apart(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    model = load_model(checkpoint.folder, checkpoint.adapter, torch.float32, CPU)
    inputs = {"input_ids": torch.randint(3, 64, (2, 12))}
    read, wrote = time_model(model, inputs, new=0), time_model(model, inputs, new=3)
    assert read.decode is None
    assert read.prefill > 0
    assert wrote.decode is not None
    assert wrote.decode > 0


def test_a_clear_ratio_is_faster_and_a_doubtful_one_is_not() -> None:
    rng = np.random.default_rng(0)
    slow, fast = 2 + 0.1 * rng.standard_normal(15), 1 + 0.1 * rng.standard_normal(15)
    assert speedup(slow, fast).verdict == "faster"
    assert speedup(slow, fast).ratio == pytest.approx(2, rel=0.1)
    assert speedup(fast, slow).verdict == "slower"
    doubtful = speedup(fast, fast + 0.2 * rng.standard_normal(15))
    assert doubtful.low < 1 < doubtful.high
    assert doubtful.verdict == "no difference shown"


def test_drift_that_both_share_cancels() -> None:
    drift = np.linspace(1, 3, 15)
    result = speedup(1.2 * drift, drift)
    assert (result.low, result.high) == pytest.approx((1.2, 1.2))


def test_the_same_seed_gives_the_same_interval() -> None:
    first, second = np.random.default_rng(1).uniform(1, 2, (2, 9))
    assert speedup(first, second, seed=3) == speedup(first, second, seed=3)


def test_spread_is_the_middle_half() -> None:
    assert vars(spread([5.0, 1.0, 2.0, 3.0, 4.0])) == {
        "median": 3.0,
        "lower_quartile": 2.0,
        "upper_quartile": 4.0,
    }


def test_ceilings_are_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunepolicy.pruning.measure.latency.COPY_BYTES", 1 << 20)
    monkeypatch.setattr("prunepolicy.pruning.measure.latency.MATMUL_SIZE", 64)
    ceilings = measure_ceilings(CPU, torch.float32)
    assert ceilings.flops > 1e6
    assert ceilings.bandwidth > 1e6


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1) as count:
        assert count == torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
