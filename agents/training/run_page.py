"""A run's report.html: the verdict, what was learned beside what has to be beaten, how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from xml.etree.ElementTree import Element

from prunepolicy.agents.runtime.html_page import commands, element, page, section, table
from prunepolicy.agents.runtime.svg_charts import Chart, Series, line_chart
from prunepolicy.agents.training.recipe import SMOKE_SENTENCE
from prunepolicy.agents.training.run_folder import RECIPE, RunFolder
from prunepolicy.agents.training.run_report import PAGE, RunReport
from prunepolicy.agents.training.train import SCORE
from prunepolicy.pruning.io.atomic import write_text

MOST_POINTS = 300
"""Of a line; longer ones show means of neighbours."""


@dataclass(frozen=True)
class RunPage:
    """What a page shows beside verdict and recipe.

    Attributes:
        charts: in their order.
        head, rows: the table of scores.
        unit: what they are, in a sentence.
        use: the command line that uses what was learned.
    """

    charts: Sequence[Chart]
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    unit: str = ""
    use: str = ""


def write_run_page(report: RunReport, run: RunFolder, shown: RunPage) -> None:
    """Write `report.html` into a run's folder."""
    name = run.path.name
    write_text(
        run.path / PAGE,
        page(
            name,
            element("h1", name),
            *([element("p", SMOKE_SENTENCE, class_="verdict bad")] if report.recipe.get("smoke") else []),
            element("p", report.verdict, class_="verdict"),
            section("What was learned", *map(line_chart, shown.charts)),
            section("Beside what needs no learning", element("p", shown.unit), table(shown.head, shown.rows)),
            section("How to repeat it", *commands(_commands(report, run, shown.use))),
            section("Recipe", _recipe(report.recipe)),
        ),
    )


def _commands(report: RunReport, run: RunFolder, use: str) -> Iterator[tuple[str, str]]:
    for number, command in enumerate(filter(None, run.commands)):
        yield "Continued" if number else "The run", command
    again = ["prunepolicy", "train", f"{report.folder}/{RECIPE}", "--out", "AGAIN"]
    yield "The same from this folder's recipe", shlex.join(again)
    if use:
        yield "Use what was learned", use


def _recipe(recipe: Mapping[str, object]) -> Element:
    rows = [(key, value) for key, value in recipe.items() if value not in (None, (), [], {})]
    return element("details", element("summary", "What decided the run"), table(("key", "value"), rows))


def learning_chart(
    run: RunFolder, best_step: int, y: str, to_beat: Mapping[str, float] | None = None
) -> Chart:
    """Return the score of every evaluation, the best step marked, beside what has to be beaten."""
    points = [(row["step"], row[SCORE]) for row in run.rows() if SCORE in row]
    best = next((point for point in points if point[0] == best_step), None)
    return Chart("learning step", y, [Series("learned", points)], to_beat or {}, best)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a line of at most `MOST_POINTS` points; where there are more, means of neighbours."""
    stride = -(-len(points) // MOST_POINTS)
    if stride <= 1:
        return list(points)
    runs = [points[start : start + stride] for start in range(0, len(points), stride)]
    return [(fmean(x for x, _ in run), fmean(y for _, y in run)) for run in runs]
