"""Charts in SVG for report pages: places are percentages, so that text keeps its size on any screen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from xml.etree.ElementTree import Element

from prunepolicy.agents.runtime.html_page import element
from prunepolicy.agents.runtime.plotting import log_steps

MOST_RATIO = 4.0
"""Ratios beyond it run to the end of their bar; the number beside it says the rest."""
COLOURS = 6
WIDEST_GAP = 0.5
"""Between the cells of a strip, in percent of its width."""


@dataclass(frozen=True)
class Series:
    """Points that belong together, from left to right.

    Attributes:
        points: (x, y); those without a finite y are left out.
        titles: what a point says when it is pointed at; its coordinates where there is none.
        dotted: whether points are marked.
        whiskers: the interval of every y.
    """

    name: str
    points: Sequence[tuple[float, float]]
    titles: Sequence[str] = ()
    dotted: bool = True
    whiskers: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes.

    Attributes:
        x, y: what the axes show.
        references: horizontal lines that say what has to be beaten, by name.
        chosen: the point that is marked.
        written: how a number on the x-axis is written; plainly where it is None.
    """

    x: str
    y: str
    series: Sequence[Series]
    references: Mapping[str, float] = field(default_factory=dict)
    chosen: tuple[float, float] | None = None
    logarithmic: bool = False
    written: Callable[[float], str] | None = None


class _Scale:
    """Maps numbers to percentages of an axis, with ticks at round numbers."""

    def __init__(self, values: Sequence[float], logarithmic: bool = False, most: int = 5) -> None:
        from matplotlib.ticker import Locator, LogLocator, MaxNLocator

        finite = [value for value in values if math.isfinite(value) and not (logarithmic and value <= 0)]
        self.of: Callable[[float], float] = math.log if logarithmic else float
        low, high = min(finite, default=1.0), max(finite, default=2.0)
        if logarithmic:
            low, high = low / 1.05, high * 1.05
            locator: Locator = LogLocator(subs=log_steps(low, high))
        else:
            slack = 0.04 * (high - low) or abs(high) * 0.05 or 1.0
            low, high = low - slack, high + slack
            locator = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10])
        self.low, self.high = self.of(low), self.of(high)
        self.ticks = [float(t) for t in locator.tick_values(low, high) if low <= t <= high]

    def __call__(self, value: float) -> float:
        """Return the percentage, from 0 at the lower end to 100."""
        return 100 * (self.of(value) - self.low) / (self.high - self.low)

    def written(self, tick: float) -> str:
        """Write a tick with the places that tell it from its neighbours."""
        gaps = [after - before for before, after in pairwise(self.ticks)]
        places = max(0, 1 - math.floor(math.log10(min(gaps)))) if gaps else 3
        rounded = f"{tick:,.{places}f}"
        return rounded.rstrip("0").rstrip(".") if "." in rounded else rounded


def line_chart(chart: Chart) -> Element:
    """Draw lines, what has to be beaten, the marked point, and a legend beneath."""
    points = [point for one in chart.series for point in one.points]
    ends = [end for one in chart.series for interval in one.whiskers for end in interval]
    across = _Scale([x for x, _ in points], most=4)
    up = _Scale([y for _, y in points] + ends + list(chart.references.values()), chart.logarithmic)
    across_written = chart.written or across.written
    drawn = element("svg", class_="chart", role="img", aria_label=f"{chart.y} by {chart.x}")
    for tick in up.ticks:
        drawn.append(_line((0, 100 - up(tick)), (100, 100 - up(tick)), "grid"))
        drawn.append(_text(up.written(tick), "0%", f"{100 - up(tick):.2f}%", "end", dx=-8, dy=4))
    for tick in across.ticks:
        drawn.append(_line((across(tick), 100), (across(tick), 101.5), "frame"))
        drawn.append(_text(across_written(tick), f"{across(tick):.2f}%", "100%", "middle", dy=20))
    drawn.append(_line((0, 100), (100, 100), "frame"))
    drawn.append(_text(chart.x, "50%", "100%", "middle", dy=38))
    legend = []
    for number, one in enumerate(chart.series):
        _draw(drawn, one, across, up, number % COLOURS)
        legend.append(_named(one.name, f"series s{number % COLOURS}"))
    for number, (name, value) in enumerate(chart.references.items(), start=len(chart.series)):
        if math.isfinite(value):
            height = 100 - up(value)
            drawn.append(_line((0, height), (100, height), f"reference s{number % COLOURS}", name))
            legend.append(_named(f"{name}: {value:.4g}", f"reference s{number % COLOURS}"))
    if chart.chosen is not None:
        place = {"cx": f"{across(chart.chosen[0]):.2f}%", "cy": f"{100 - up(chart.chosen[1]):.2f}%"}
        drawn.append(element("circle", **place, r=9, class_="chosen"))
    caption = element("figcaption", chart.y)
    return element("figure", caption, drawn, element("div", *legend, class_="legend"))


def _draw(drawn: Element, one: Series, across: _Scale, up: _Scale, colour: int) -> None:
    """Add the lines of a series, then its points with their titles."""
    titles = one.titles or [f"{x:g}: {y:.4g}" for x, y in one.points]
    there = [(x, y, words) for (x, y), words in zip(one.points, titles, strict=True) if math.isfinite(y)]
    places = [(across(x), 100 - up(y)) for x, y, _ in there]
    for before, after in pairwise(places):
        drawn.append(_line(before, after, f"series s{colour}"))
    for (x, _), (low, high) in zip(one.points, one.whiskers, strict=False):
        drawn.append(_line((across(x), 100 - up(low)), (across(x), 100 - up(high)), f"series s{colour}"))
    for (x, y), (*_, words) in zip(places, there, strict=True):
        place = {"cx": f"{x:.2f}%", "cy": f"{y:.2f}%"}
        if one.dotted or len(places) == 1:
            drawn.append(element("circle", element("title", words), **place, r=4, class_=f"dots s{colour}"))


def _named(name: str, kind: str) -> Element:
    sample = element("line", x1=0, x2="100%", y1="50%", y2="50%", class_=kind)
    return element("span", element("svg", sample, class_="swatch"), name)


def ratio_bar(ratio: float, interval: tuple[float, float] | None, kind: str) -> Element:
    """Draw how far a ratio lies from 1, which is in the middle, on a logarithmic axis, with its whisker.

    Args:
        kind: `better`, `worse` or `open`, which is its colour.
    """
    drawn = element("svg", class_="bar", role="img", aria_label=f"{ratio:.3g} times")
    end = _of_ratio(ratio)
    left, right = sorted((50.0, end))
    drawn.append(
        element("rect", x=f"{left:.2f}%", width=f"{right - left:.2f}%", y="22%", height="56%", class_=kind)
    )
    if interval is not None:
        low, high = map(_of_ratio, interval)
        drawn.append(_line((low, 50), (high, 50), "whisker"))
        drawn.extend(_line((place, 32), (place, 68), "whisker") for place in (low, high))
    drawn.append(_line((50, 0), (50, 100), "one"))
    return drawn


def _of_ratio(ratio: float) -> float:
    """Return where a ratio lies on its bar, in percent."""
    most = math.log(MOST_RATIO)
    logarithm = most if math.isinf(ratio) or math.isnan(ratio) else math.log(max(ratio, 1e-9))
    return 50 + 49 * max(-1.0, min(1.0, logarithm / most))


@dataclass(frozen=True)
class Cell:
    """One layer on a strip.

    Attributes:
        share: of its units that stayed; None where the whole layer went.
        title: what it says when it is pointed at.
    """

    share: float | None
    title: str


def strip(cells: Sequence[Cell], label: str) -> Element:
    """Draw one cell per layer, filled from below as far as its units stayed."""
    drawn, width = element("svg", class_="strip", role="img", aria_label=label), 100 / max(1, len(cells))
    gap = min(WIDEST_GAP, 0.12 * width)
    for number, cell in enumerate(cells):
        place = {"x": f"{number * width:.3f}%", "width": f"{width - gap:.3f}%"}
        whole = element(
            "rect", **place, y="0%", height="100%", class_="gone" if cell.share is None else "empty"
        )
        group = element("g", element("title", cell.title), whole)
        if cell.share:
            height = 100 * cell.share
            group.append(
                element("rect", **place, y=f"{100 - height:.2f}%", height=f"{height:.2f}%", class_="kept")
            )
        drawn.append(group)
    return drawn


def _line(start: tuple[float, float], end: tuple[float, float], kind: str, title: str = "") -> Element:
    places = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
    written = {name: f"{place:.2f}%" for name, place in places.items()}
    return element("line", element("title", title) if title else None, **written, class_=kind)


def _text(words: str, x: str, y: str, anchor: str, **shifts: int) -> Element:
    return element("text", words, x=x, y=y, text_anchor=anchor, **shifts)
