"""The comparison of policies: its figure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policy_tables import KEEPS, SHAPES, Comparison, Place

from prunepolicy.agents.runtime.plotting import GREY, LINES, figure_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HAND_MADE = ("activation", "fisher", "fisher x activation", "taylor")
SEARCHES = ("greedy search", "quadratic search")
TITLE = "Excess log-perplexity over the dense model, beside the best hand-made criterion (less is better)"
MOST = 1.6
"""Largest multiple that is drawn; chance and weight norms lie far beyond."""
FAINT = "#B5B5B5"


def plot_policies(found: Comparison, path: Path) -> None:
    """Draw every method's excess as a multiple of the best hand-made criterion's, as a PNG."""
    with figure_at(path, (10.5, 4.2)) as figure:
        panels: Any = figure.subplots(1, 4, sharey=True)
        shapes = [(of, uniform) for uniform in SHAPES for of in ("ffn", "params")]
        for axes, (of, uniform) in zip(panels, shapes, strict=True):
            _panel(axes, found, of, uniform)
        panels[0].set_ylabel("multiple of the best criterion's excess")
        figure.suptitle(TITLE, fontsize=11)
        named: dict[str, Any] = {}
        for axes in panels:
            handles, labels = axes.get_legend_handles_labels()
            named |= dict(zip(labels, handles, strict=True))
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=5)


def _panel(axes: Axes, found: Comparison, of: str, uniform: bool) -> None:
    learned = found.methods("selection", "learned")
    styles = {name: (FAINT, marker) for name, marker in zip(HAND_MADE, "os^v", strict=True)}
    styles |= {name: (GREY, marker) for name, marker in zip(SEARCHES, "DX", strict=True)}
    styles |= dict(zip(learned, LINES, strict=False))
    for number, (method, style) in enumerate(styles.items()):
        shift = 0.05 * (number - (len(styles) - 1) / 2)
        values = [found.relative(method, Place(of, keep, uniform)) for keep in KEEPS]
        _line(axes, shift, values, method, style)
    axes.axhline(1, color="black", linewidth=1, linestyle=(0, (5, 3)), label="best hand-made")
    axes.set(title=f"of {of}, {SHAPES[uniform]}", xlabel="kept", xlim=(-0.5, len(KEEPS) - 0.5))
    axes.set_xticks(range(len(KEEPS)), [f"{keep:.0%}" for keep in KEEPS])
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)


def _line(
    axes: Axes, shift: float, values: Sequence[Sequence[float]], method: str, style: tuple[str, str]
) -> None:
    """Draw medians with bars from the smallest to the largest; what lies beyond the picture is left out."""
    points = [
        (place + shift, statistics.median(found), min(found), max(found))
        for place, found in enumerate(values)
        if found and statistics.median(found) <= MOST
    ]
    if points:
        at, middle, low, high = map(list, zip(*points, strict=True))
        below = [m - least for m, least in zip(middle, low, strict=True)]
        above = [most - m for m, most in zip(middle, high, strict=True)]
        axes.errorbar(
            at, middle, [below, above], color=style[0], marker=style[1], markersize=5, linewidth=1.4,
            elinewidth=1, label=method,
        )  # fmt: skip
