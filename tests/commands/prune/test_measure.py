"""How often models are timed: as time allows, whatever the timings say."""

from __future__ import annotations

import pytest

from prunepolicy.commands.prune import measure as quality
from prunepolicy.pruning.measure.latency import ModelTime


@pytest.mark.parametrize(
    ("time", "rounds"),
    [
        (ModelTime(1.0, 0.5), quality.FEWEST),
        (ModelTime(0.1, 0.05), 20),
        (ModelTime(0.5, None), 20),
        (ModelTime(0.001, 0.001), quality.MOST),
    ],
)
def test_both_models_are_timed_as_often_as_fits(time: ModelTime, rounds: int) -> None:
    called: list[str] = []

    def run(name: str) -> ModelTime:
        called.append(name)
        return time

    timed = quality._in_turn([lambda: run("dense"), lambda: run("pruned")])
    assert [len(series) for series in timed] == [rounds, rounds]
    assert called.count("dense") == called.count("pruned")
