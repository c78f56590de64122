"""Pictures of a model that learns when to think: what it does by difficulty, and how healthy learning was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator, PercentFormatter

from prunepolicy.agents.runtime.plotting import LINES, figure_at
from prunepolicy.agents.thinking.lm.think_eval import ThinkEval

PANELS = {
    "what it does": ("accuracy", "think", "mixed", "zero_variance", "clipped_length"),
    "uncertainty, nats": ("mode_entropy", "entropy", "kl"),
    "tokens": ("tokens",),
    "reward": ("reward",),
    "imitation, and what goes wrong": (
        "p_imitation",
        "imitation_norm",
        "verifier_errors",
        "clipped_ratio",
        "leaked",
    ),
}
"""Metrics that every picture of health shows together."""


def plot_think(examinations: Mapping[str, ThinkEval], path: Path) -> None:
    """Draw accuracy, tokens and think rate over difficulty as a PNG, a line per think_eval."""
    columns = {"accuracy": "accuracy", "tokens": "tokens of a completion", "think": "share that thinks"}
    with figure_at(path, (11, 3.6)) as figure:
        every = figure.subplots(1, len(columns))
        for axes, (name, title) in zip(every, columns.items(), strict=True):
            for (label, one), (colour, marker) in zip(examinations.items(), LINES, strict=False):
                levels = [bin_.difficulty for bin_ in one.bins]
                values = [getattr(bin_, name) for bin_ in one.bins]
                axes.plot(levels, values, color=colour, marker=marker, markersize=4, label=label)
            axes.set(xlabel="difficulty", title=title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(bottom=0)
            if name != "tokens":
                axes.set_ylim(-0.03, 1.03)
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def plot_health(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw what every step logged as a PNG, panel by panel; what was never logged is left out."""
    logged = {name for row in rows for name in row}
    panels = {title: [n for n in names if n in logged] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        return
    with figure_at(path, (7.2, 1.9 * len(panels))) as figure:
        every = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, names) in zip(every, panels.items(), strict=True):
            for name, (colour, _) in zip(names, LINES, strict=False):
                points = [(row["step"], row[name]) for row in rows if name in row]
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=1, label=name)
            axes.set_title(title)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        every[-1].set_xlabel("learning step")
