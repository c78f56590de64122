"""Pictures of a training run: the reward, the validation score, and what was kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prunepolicy.agents.runtime.plotting import LINES, SKY, VERMILION, figure_at
from prunepolicy.pruning.units import KIND_NAMES, UnitGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TICKS = 8
LEAST_RANGE = 0.01
"""Of the colours, so that noise in the last digit doesn't look like a pattern."""


def plot_learning(
    rewards: Sequence[tuple[float, float]],
    validation: Sequence[tuple[float, float]],
    to_beat: Mapping[str, float],
    path: Path,
) -> None:
    """Draw a learning curve as a PNG: excess on validation text beside what has to be beaten, and the reward.

    Upwards is better in both.

    Args:
        rewards: (step, reward).
        validation: (step, excess log-perplexity).
        to_beat: excess of what is drawn as horizontal lines, by name.
    """
    from matplotlib.ticker import MaxNLocator

    with figure_at(path, (7.6, 5.4)) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        above.plot(*zip(*validation, strict=True), color=VERMILION, marker="o", markersize=4, label="learned")
        for (name, excess), (colour, _) in zip(to_beat.items(), LINES, strict=False):
            above.axhline(excess, color=colour, linestyle=(0, (5, 3)), label=f"{name}: {excess:.4g}")
        above.invert_yaxis()
        above.set(title="Excess on validation text, nats per token (upwards is better)")
        if rewards:
            below.plot(*zip(*rewards, strict=True), color=SKY, linewidth=1)
        below.set(xlabel="learning step", title="Reward in training (upwards is better)")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=2)


@dataclass(frozen=True)
class KeptHistory:
    """What was kept, evaluation by evaluation.

    Attributes:
        graph: whose groups these are.
        rows: (step, number in [0, 1] by group).
        best_step: the step whose policy was kept as the best; it is marked.
        title: what the numbers are.
        where: of which model, at which budget.
        scale: what the numbers are shares of.
    """

    graph: UnitGraph
    rows: Sequence[tuple[int, Mapping[str, float]]]
    best_step: int
    title: str
    where: str
    scale: str

    @property
    def panels(self) -> dict[str, list[list[float]]]:
        """Return, by kind of unit, one line per layer with one number per evaluation.

        Groups of one kind in one layer (experts) are averaged; kinds with a single line are left out.
        """
        lines: dict[str, dict[object, list[str]]] = {}
        for group in self.graph.groups:
            if any(group.name in shares for _, shares in self.rows):
                place = group.name if group.layer is None else group.layer
                lines.setdefault(group.kind, {}).setdefault(place, []).append(group.name)
        return {
            kind: [[_mean(shares, names) for _, shares in self.rows] for names in by_place.values()]
            for kind, by_place in lines.items()
            if len(by_place) > 1
        }


def _mean(shares: Mapping[str, float], names: Sequence[str]) -> float:
    known = [shares[name] for name in names if name in shares]
    return sum(known) / len(known) if known else math.nan


def plot_kept(history: KeptHistory, path: Path) -> None:
    """Draw layers against training steps as a PNG, with what was kept as colour; nothing without layers."""
    from matplotlib.ticker import PercentFormatter

    panels = history.panels
    if not panels:
        return
    values = [value for lines in panels.values() for line in lines for value in line]
    limits = min(values), max(*values, min(values) + LEAST_RANGE)
    with figure_at(path, _inches(panels)) as figure:
        every = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (kind, lines) in zip(every, panels.items(), strict=True):
            image = axes.imshow(
                lines, cmap="viridis", vmin=limits[0], vmax=limits[1], aspect="auto", interpolation="nearest"
            )
            axes.set_title(KIND_NAMES[kind], pad=14)
            _label_steps(axes, history)
        every[0].set_ylabel("layer")
        figure.suptitle(f"{history.title}\n{history.where}", x=0.02, ha="left", fontsize=11)
        figure.colorbar(image, ax=every, format=PercentFormatter(1.0), label=history.scale, aspect=30)


def _inches(panels: Mapping[str, Sequence[Sequence[float]]]) -> tuple[float, float]:
    """Return a size at which every layer has a visible height and every step a visible width."""
    depth = max(map(len, panels.values()))
    steps = len(next(iter(panels.values()))[0])
    width = max(4.6, min(7.0, 1.2 + 0.3 * steps)) if len(panels) == 1 else 3.8
    return 1.4 + width * len(panels), max(3.2, min(8.0, 2.0 + 0.14 * depth))


def _label_steps(axes: Axes, history: KeptHistory) -> None:
    """Name the evaluations by their steps, as many as fit, and mark the best one above its column."""
    steps = [step for step, _ in history.rows]
    stride = math.ceil(len(steps) / MOST_TICKS)
    axes.set_xticks(range(0, len(steps), stride), [str(step) for step in steps[::stride]])
    axes.locator_params(axis="y", integer=True, min_n_ticks=1)
    axes.set_xlabel("learning step")
    if history.best_step in steps:
        column, above = steps.index(history.best_step), axes.get_xaxis_transform()
        axes.plot(column, 1.02, marker="v", color=VERMILION, markersize=6, clip_on=False, transform=above)
        axes.set_xlabel("learning step (▾ the best)")
