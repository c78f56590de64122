"""Pictures of a model that learns when to think: what it does by difficulty, and how healthy learning was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from prunepolicy.agents.runtime.plotting import LINES, figure_at
from prunepolicy.agents.thinking.lm.think_eval import ThinkEval
from prunepolicy.pruning.measure.intervals import wilson_interval

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

SHIFT = 0.07
"""Levels of difficulty by which lines stand beside each other."""
MOST_LEVELS = 8


def plot_think(examinations: Mapping[str, ThinkEval], path: Path) -> None:
    """Draw accuracy, tokens and think rate over difficulty as a PNG, a line per evaluation.

    Lines stand a little beside each other, so that equal ones don't hide one another; whiskers are 95 %
    intervals of shares. A forced mode's think rate, which is the same everywhere, is left out.
    """
    titles = {"accuracy": "accuracy", "tokens": "tokens of a completion", "think": "share that thinks"}
    with figure_at(path, (11, 4.0)) as figure:
        every = figure.subplots(1, len(titles))
        for axes, (name, title) in zip(every, titles.items(), strict=True):
            for number, (one, (colour, marker)) in enumerate(zip(examinations.values(), LINES, strict=False)):
                if name == "think" and len(examinations) > 1 and is_forced(one):
                    continue
                shift = SHIFT * (number - (len(examinations) - 1) / 2)
                _draw_levels(axes, one, name, shift, color=colour, marker=marker)
            axes.set(xlabel="difficulty (number of answers below)", title=title)
            _name_levels(axes, next(iter(examinations.values())))
            axes.set_ylim(bottom=0)
            if name != "tokens":
                axes.set_ylim(-0.03, 1.03)
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        lines = every[0].containers
        figure.legend(lines, examinations, loc="outside lower center", ncols=4)


def is_forced(one: ThinkEval) -> bool:
    """Return whether a mode thinks always or never, whatever the problem."""
    return len({bin_.think for bin_ in one.bins}) == 1 and one.think in (0, 1)


def _draw_levels(axes: Axes, one: ThinkEval, name: str, shift: float, **look: Any) -> None:
    """Draw a line over the levels of difficulty, with the interval of every share."""
    values = [getattr(bin_, name) for bin_ in one.bins]
    errors = None
    if name != "tokens":
        ends = [wilson_interval(value, bin_.answers) for value, bin_ in zip(values, one.bins, strict=True)]
        below = [max(0.0, value - end.low) for value, end in zip(values, ends, strict=True)]
        errors = [below, [max(0.0, end.high - value) for value, end in zip(values, ends, strict=True)]]
    places = [bin_.difficulty + shift for bin_ in one.bins]
    axes.errorbar(places, values, errors, markersize=4, linewidth=1.2, elinewidth=0.9, capsize=2, **look)


def _name_levels(axes: Axes, one: ThinkEval) -> None:
    """Name as many levels as fit, with the number of answers to each."""
    levels = one.bins[:: -(-len(one.bins) // MOST_LEVELS)]
    axes.set_xticks(
        [bin_.difficulty for bin_ in levels], [f"{bin_.difficulty}\n{bin_.answers}" for bin_ in levels]
    )


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
        every[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
