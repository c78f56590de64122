"""Pictures of a result: what stayed of every layer, what changed, and the frontier of keep ratios."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from prunepolicy.agents.runtime.plotting import (
    BLUE,
    GREEN,
    GREY,
    LINES,
    ORANGE,
    PINK,
    finish,
    picture,
    plain_log_ticks,
)
from prunepolicy.commands.report.report import KeptUnits, PruneReport
from prunepolicy.commands.report.report_view import less_is_better
from prunepolicy.pruning.units import KIND_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = {
    "ffn": (BLUE, "o"),
    "kv_head": (ORANGE, "s"),
    "query_head": (GREEN, "^"),
    "expert": (PINK, "D"),
    "channel": (BLUE, "o"),
}
MARKED = 40
"""Layers up to which every one has a marker."""


LAYERS_PICTURE = "layers.png"
BEFORE_AFTER_PICTURE = "before_after.png"
FRONTIER_PICTURE = "frontier.png"


@dataclass(frozen=True)
class FrontierPoint:
    """One pruned network.

    Attributes:
        params: share of the parameters that stayed.
        perplexity: on the same text as every other point.
        label: what made it; points of one label are joined.
    """

    params: float
    perplexity: float
    label: str


def plot_layers(report: PruneReport, path: Path) -> None:
    """Draw the share of units that stayed per layer as a PNG, of every kind that has lost any."""
    shares = layer_shares(report)
    depth = 1 + max((place for place, _ in places(report)), default=0)
    with picture(path, (max(6.0, min(11.0, 4 + 0.1 * depth)), 3.2)) as axes:
        for number, (kind, points) in enumerate(shares.items()):
            if all(share == 1 for share in points.values()):
                continue
            colour, marker = STYLES[kind]
            # Later lines are thinner, so that equal shares stay visible under one another.
            weight = 1.5 ** (len(shares) - number)
            axes.plot(
                range(depth),
                [points.get(layer, math.nan) for layer in range(depth)],
                color=colour,
                marker=marker if depth <= MARKED else None,
                markersize=2.5 + 1.5 * weight,
                linewidth=weight,
                label=KIND_NAMES[kind],
                clip_on=False,
            )
        _mark_removed_layers(report, axes)
        axes.set(
            xlabel=place_name(report),
            ylim=(0, 1.02),
            title=f"Kept in every {place_name(report)}",
            xlim=(-0.5, depth - 0.5),
        )
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.locator_params(axis="x", integer=True)
        finish(axes, [*axes.lines, *axes.patches])


def places(report: PruneReport) -> Iterator[tuple[int, KeptUnits]]:
    """Yield what stayed with its layer; channel groups, which span layers, are counted through."""
    for number, units in enumerate(report.kept):
        if units.layer is not None:
            yield units.layer, units
        elif units.kind == "channel":
            yield number, units


def place_name(report: PruneReport) -> str:
    """Return what `places` are called."""
    return "group of channels" if any(units.kind == "channel" for units in report.kept) else "layer"


def layer_shares(report: PruneReport) -> dict[str, dict[int, float]]:
    """Return, by kind and by layer that stayed, the share of units kept."""
    sums: dict[str, dict[int, tuple[int, int]]] = {}
    for place, units in places(report):
        if units.kept:
            kept, size = sums.setdefault(units.kind, {}).get(place, (0, 0))
            sums[units.kind][place] = kept + units.kept, size + units.size
    return {kind: {place: kept / size for place, (kept, size) in by.items()} for kind, by in sums.items()}


def _mark_removed_layers(report: PruneReport, axes: Axes) -> None:
    gone = sorted({place for place, units in places(report) if not units.kept})
    for number, place in enumerate(gone):
        label = "" if number else "removed layers"
        axes.axvspan(place - 0.5, place + 0.5, color="#DDDDDD", linewidth=0, label=label)


def plot_before_after(report: PruneReport, path: Path) -> None:
    """Draw every quantity after pruning as a multiple of before, as a PNG: whiskers are 95 % intervals."""
    rows = list(reversed(less_is_better(report)))
    ends = [end for row in rows for end in (row.ratio, *(row.interval or ())) if 0 < end < math.inf]
    with picture(path, (7.4, 1.5 + 0.36 * len(rows))) as axes:
        for place, row in enumerate(rows):
            colour = GREY if not row.shown else ORANGE if row.ratio > 1 else BLUE
            axes.barh(place, min(row.ratio, max(ends)) - 1, left=1, color=colour, height=0.6)
            if row.interval is not None:
                axes.plot(row.interval, (place, place), color="black", marker="|", linewidth=1, markersize=7)
            axes.text(1.02, place, f"{row.ratio:.3g}x", va="center", transform=axes.get_yaxis_transform())
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.axvline(1, color="black", linewidth=1)
        axes.set(title="After pruning, as a multiple of before (left is better)", xscale="log")
        axes.set_xlabel("whiskers: 95 % intervals; grey: no difference shown")
        axes.set_xlim(min(0.5, *ends) / 1.1, max(2.0, *ends) * 1.1)
        plain_log_ticks(axes.xaxis, axes.get_xlim(), "{x:g}x")
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)


def plot_frontier(points: Sequence[FrontierPoint], path: Path, dense: float | None = None) -> None:
    """Draw perplexity (logarithmic) against the share of parameters that stayed, as a PNG.

    Args:
        dense: perplexity of the whole network, drawn as a line.
    """
    from matplotlib.ticker import PercentFormatter

    with picture(path, (7.2, 4.0)) as axes:
        for (label, line), (colour, marker) in zip(_lines(points).items(), cycle(LINES), strict=False):
            axes.plot(
                [point.params for point in line],
                [point.perplexity for point in line],
                color=colour,
                marker=marker,
                markersize=5.5,
                linewidth=1.6,
                label=label,
            )
        if dense is not None:
            axes.axhline(dense, color="black", linewidth=1, linestyle=(0, (5, 3)), label="not pruned")
        axes.set(xlabel="parameters kept", title="Perplexity by size (less is better)", yscale="log")
        plain_log_ticks(axes.yaxis, axes.get_ylim(), "{x:g}")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        finish(axes, axes.lines)


def _lines(points: Sequence[FrontierPoint]) -> dict[str, list[FrontierPoint]]:
    """Group points by label, the worst first, so that the legend reads like the picture."""
    lines: dict[str, list[FrontierPoint]] = {}
    for point in sorted(points, key=lambda point: point.params):
        lines.setdefault(point.label, []).append(point)
    return dict(sorted(lines.items(), key=lambda item: -item[1][0].perplexity))
