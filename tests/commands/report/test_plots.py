from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunepolicy.commands.report.plots import (
    FrontierPoint,
    layer_shares,
    plot_before_after,
    plot_frontier,
    plot_layers,
)
from prunepolicy.commands.report.report import KeptUnits, PruneReport
from prunepolicy.commands.report.report_view import less_is_better
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.measure.speedup import Speedup

BLUE = (0x00, 0x72, 0xB2)
POINTS = [
    FrontierPoint(keep, perplexity, label)
    for label, perplexities in {"random": (1829.0, 200.0), "learned": (168.0, 112.0)}.items()
    for keep, perplexity in zip((0.7, 0.9), perplexities, strict=True)
]
DRAWINGS: dict[str, Callable[[PruneReport, Path], None]] = {
    "layers": plot_layers,
    "before_after": plot_before_after,
    "frontier": lambda report, path: plot_frontier(POINTS, path, dense=96.0),
}


def pixels(path: Path) -> np.ndarray:
    image = Image.open(io.BytesIO(path.read_bytes()))
    assert image.format == "PNG"
    assert round(image.info["dpi"][0]) == 150
    return np.asarray(image.convert("RGB"))


def area(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(-1).sum())


def mean_row(picture: np.ndarray) -> float:
    """The mean height, in rows from the top, of the blue line (the legend beside it left out)."""
    return float(np.flatnonzero((picture == BLUE).all(-1)[:, :400].any(1)).mean())


@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_show_something_and_are_the_same_bytes_every_time(
    name: str, report: PruneReport, tmp_path: Path
) -> None:
    for file in ("one.png", "two.png"):
        DRAWINGS[name](report, tmp_path / file)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    picture = pixels(tmp_path / "one.png")
    assert area(picture, BLUE) > 100
    assert area(picture, (255, 255, 255)) > 0.5 * picture.shape[0] * picture.shape[1]


def test_the_layer_picture_follows_the_plan(report: PruneReport, tmp_path: Path) -> None:
    plot_layers(report, tmp_path / "half.png")
    more = tuple(replace(units, kept=units.kept and 60) for units in report.kept)
    plot_layers(replace(report, kept=more), tmp_path / "more.png")
    half, higher = (mean_row(pixels(tmp_path / name)) for name in ("half.png", "more.png"))
    assert higher < half


def test_eighty_layers_and_none_at_all_can_be_drawn(report: PruneReport, tmp_path: Path) -> None:
    many = tuple(KeptUnits(f"layers.{i}.ffn", "ffn", i, 64, 20 + i % 40) for i in range(80))
    plot_layers(replace(report, kept=many), tmp_path / "many.png")
    assert area(pixels(tmp_path / "many.png"), BLUE) > 100
    plot_layers(replace(report, kept=()), tmp_path / "none.png")
    assert area(pixels(tmp_path / "none.png"), BLUE) == 0


def test_shares_leave_removed_layers_out(report: PruneReport) -> None:
    assert layer_shares(report) == {"ffn": {0: 0.5, 1: 0.5, 3: 0.5}}


def test_channel_groups_stand_for_layers_in_convolution_networks(report: PruneReport) -> None:
    channels = tuple(KeptUnits(f"conv{i}", "channel", None, 8, 8 - i) for i in range(3))
    assert layer_shares(replace(report, kept=channels)) == {"channel": {0: 1.0, 1: 0.875, 2: 0.75}}


def test_groups_of_one_layer_are_added_up(report: PruneReport) -> None:
    experts = tuple(KeptUnits(f"layers.0.{i}", "ffn", 0, 10, kept) for i, kept in enumerate((10, 5)))
    assert layer_shares(replace(report, kept=experts)) == {"ffn": {0: 0.75}}


def test_what_shows_no_difference_is_grey(report: PruneReport, tmp_path: Path) -> None:
    grey = (0x6E, 0x6E, 0x6E)
    plot_before_after(replace(report, change=Interval(0.1, 0.2)), tmp_path / "shown.png")
    unclear = dict.fromkeys(report.speedups, Speedup(1.1, 0.9, 1.3))
    plot_before_after(replace(report, speedups=unclear), tmp_path / "unclear.png")
    shown, open_ = (area(pixels(tmp_path / name), grey) for name in ("shown.png", "unclear.png"))
    assert open_ > 10 * shown


def test_only_measured_changes_are_drawn(report: PruneReport) -> None:
    assert [row.name for row in less_is_better(report)] == [
        "Parameters", "FLOPs per token", "Weights", "KV cache per token", "Perplexity",
        "Prefill (512 tokens)", "Decode (per token)",
    ]  # fmt: skip
    bare = replace(report, after=replace(report.after, score=None, latency={}))
    assert [row.name for row in less_is_better(bare)][3:] == ["KV cache per token"]
