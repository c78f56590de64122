"""A frontier's report.html: perplexity by size, the smallest size that is still good, how to cut it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prunepolicy.agents.runtime.html_page import commands, element, page, section, table
from prunepolicy.agents.runtime.svg_charts import Chart, Series, line_chart
from prunepolicy.commands.report.report import DEGRADED
from prunepolicy.commands.report.report_page import PAGE
from prunepolicy.commands.report.report_view import SIZE_NAMES, count
from prunepolicy.pruning.io.atomic import write_text

if TYPE_CHECKING:
    from prunepolicy.commands.prune.frontier import Frontier, FrontierRow


def write_frontier_page(frontier: Frontier, command: str, folder: Path) -> None:
    """Write `report.html` into `folder`.

    Args:
        command: the command line that drew the frontier.
    """
    write_text(folder / PAGE, frontier_page(frontier, command))


def frontier_page(frontier: Frontier, command: str) -> str:
    """Return the frontier as one HTML file."""
    title = f"{frontier.model} by size"
    on = f"Perplexity right after cutting, without repair, on {frontier.text}. Decided by {frontier.made_by}."
    head = ("keep", "parameters", "FLOPs", "perplexity", "times the dense model's")
    dense = ("1", count(frontier.total), "100.0%", f"{frontier.dense:.4g}", "1")
    return page(
        title,
        element("h1", title),
        element("p", verdict(frontier), class_="verdict"),
        section("Perplexity by size", line_chart(_chart(frontier)), element("p", on, class_="soft")),
        section("Every size", table(head, [dense, *(_cells(frontier, row) for row in frontier.rows)])),
        section("How to repeat it", *commands(_commands(frontier, command))),
    )


def verdict(frontier: Frontier) -> str:
    """Say which size is the smallest whose perplexity isn't called degraded."""
    chosen, most = frontier.smallest_good, f"at most {DEGRADED:g} times the dense model's"
    if chosen is None:
        return f"No size keeps the perplexity {most} without repair."
    what = SIZE_NAMES.get(frontier.of, frontier.of)
    return (
        f"Keeping {chosen.keep:g} of the {what} is the smallest size with a perplexity of {most} before any "
        f"repair: {frontier.dense:.4g} → {chosen.perplexity:.4g} with {chosen.params:.1%} of the parameters."
    )


def _chart(frontier: Frontier) -> Chart:
    chosen = frontier.smallest_good
    points = [(row.params, row.perplexity) for row in frontier.rows]
    titles = [f"keep {row.keep:g}: perplexity {row.perplexity:.4g}" for row in frontier.rows]
    return Chart(
        "parameters kept",
        "Perplexity (logarithmic): less is better; the smallest size that isn't degraded is circled.",
        [Series(frontier.made_by, points, titles)],
        {"not pruned": frontier.dense},
        None if chosen is None else (chosen.params, chosen.perplexity),
        logarithmic=True,
        written=lambda share: f"{100 * share:.4g}%",
    )


def _cells(frontier: Frontier, row: FrontierRow) -> tuple[str, ...]:
    ratio = f"{row.perplexity / frontier.dense:.3g}"
    size = count(row.params * frontier.total)
    return f"{row.keep:g}", size, f"{row.flops:.1%}", f"{row.perplexity:.4g}", ratio


def _commands(frontier: Frontier, command: str) -> Iterator[tuple[str, str]]:
    if command:
        yield "This frontier", command
    chosen = frontier.smallest_good or frontier.rows[0]
    plan = f"{frontier.folder}/{chosen.plan}"
    words = ["prunepolicy", "cut", frontier.model, plan, "--out", "OUT"]
    yield f"The model at keep {chosen.keep:g}", shlex.join(words)
