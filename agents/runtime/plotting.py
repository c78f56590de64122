"""How plots look, and how they are written: the same bytes for the same drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunepolicy.pruning.io.atomic import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers; black is left for text.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, GREY = "#56B4E9", "#D55E00", "#6E6E6E"
LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PINK, "D"), (SKY, "v"), (VERMILION, "P"), (GREY, "X"))
SETTINGS: dict[str, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
}
DPI = 150


def plain_log_ticks(axis: Axis, limits: tuple[float, float], form: str) -> None:
    """Write plain numbers on a logarithmic axis, more of them the shorter it is."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=log_steps(*limits)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(form)


def log_steps(low: float, high: float) -> tuple[float, ...]:
    """Return which multiples of powers of ten stand on a logarithmic axis, more of them the shorter it is."""
    decades = math.log10(high / low)
    if decades >= 2.7:
        return (1,)
    return (1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 5, 7)


def finish(axes: Axes, named: Sequence[object]) -> None:
    """Add faint horizontal lines, and a legend beside the picture where there is something to tell apart."""
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    if named:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


@contextmanager
def picture(path: Path, inches: tuple[float, float]) -> Iterator[Axes]:
    """Give axes to draw on, and write them to `path`."""
    with figure_at(path, inches) as figure:
        yield figure.add_subplot()


@contextmanager
def figure_at(path: Path, inches: tuple[float, float]) -> Iterator[Figure]:
    """Give a figure to draw on, and write it to `path`: the same bytes for the same drawing."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({**SETTINGS}):
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        drawn = BytesIO()
        # Matplotlib's version would be written into the file otherwise.
        figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(path, drawn.getvalue())
