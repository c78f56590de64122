"""Quality of every criterion and budget: its tables, its figure and README's short table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import four, percent, put_between, spread, table

from prunepolicy.commands.report.plots import FrontierPoint, plot_frontier

SCORES = {
    "prose": "prose perplexity",
    "code": "code perplexity",
    "piqa_acc": "PIQA acc",
    "piqa_acc_norm": "PIQA acc_norm",
    "blimp_acc": "BLiMP acc",
}
SHOWN = (
    "random",
    "activation",
    "fisher",
    "fisher x activation",
    "default",
    "default, per layer",
)
"""The methods in README's table, the first one chance."""


@dataclass(frozen=True)
class Change:
    """One thing done otherwise.

    Attributes:
        what: completes "How much lower or higher the excess is".
        pairs: methods without it, and the same with it.
    """

    title: str
    what: str
    pairs: Mapping[str, str]


CHANGES = (
    Change(
        "Varied text instead of text from the start token",
        "when every second calibration text starts with a random token",
        {
            "fisher x activation, ridge": "default, ridge",
            "fisher, ridge, per layer": "default, ridge, per layer",
            "fisher x activation": "fisher x activation, varied text",
            "fisher, per layer": "fisher, varied text, per layer",
        },
    ),
    Change(
        "Reconstruction instead of ridge",
        "when blocks are repaired one after the other, each making up for what went wrong before it "
        "(`reconstruction`), instead of each by itself (`ridge`)",
        {"default, ridge": "default", "default, ridge, per layer": "default, per layer"},
    ),
)
MARKS = "<!-- quality: written by make docs -->", "<!-- end -->"


def quality(results: dict[str, Any]) -> str:
    """One table per budget: medians over seeds, with the range where there are several."""
    rows = results["rows"]
    dense = next(row for row in rows if row["method"] == "dense")
    lines = [
        "## Quality\n",
        f"{results['model']}, {results['dtype']}, {results['machine']}; {results['texts']}. "
        f"{results['questions']['piqa']} PIQA questions, {results['questions']['blimp']} BLiMP pairs. "
        "Nothing was chosen on them. Several seeds: median (smallest to largest).\n",
    ]
    for of, keep in dict.fromkeys((row["of"], row["keep"]) for row in rows if row["method"] != "dense"):
        here = [row for row in rows if (row["of"], row["keep"]) == (of, keep)]
        lines += [f"### keep {keep:g} of {of}\n", table(["method", "seeds", *SCORES.values()], [
            _row("dense", [dense]), *sorted_rows(here)
        ]), ""]  # fmt: skip
    lines.append("![Perplexity against parameters kept](quality.png)\n")
    return "\n".join([*lines, *(line for change in CHANGES for line in changed(rows, change))])


def changed(rows: Sequence[dict[str, Any]], change: Change) -> list[str]:
    """Return how the median excess changes, budget by budget."""
    places = dict.fromkeys((r["of"], r["keep"]) for r in rows if r["method"] in change.pairs.values())
    body = []
    for of, keep in sorted(places, key=lambda place: (place[0], -place[1])):
        cells = [
            " / ".join(f"{_excess(rows, new, of, keep, text) / _excess(rows, old, of, keep, text) - 1:+.0%}"
                       for text in ("prose", "code"))
            for old, new in change.pairs.items()
        ]  # fmt: skip
        body.append([f"keep {keep:g} of {of}", *cells])
    return [
        f"### {change.title}\n",
        "How much lower (-) or higher (+) the median excess log-perplexity over the dense model is, on prose "
        f"/ on code, {change.what}.\n",
        table(["budget", *change.pairs], body),
        "",
    ]


def _excess(rows: Sequence[dict[str, Any]], method: str, of: str, keep: float, text: str) -> float:
    dense, here = _at(rows, "dense", "params", 1.0)[0], _at(rows, method, of, keep)
    return math.log(statistics.median(row[text] for row in here) / dense[text])


def write_readme(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Put the short quality table between README's marks."""
    keeps = (0.9, 0.8, 0.7)
    body = [
        [method, *(_cell("prose", _at(rows, method, "params", keep)) for keep in keeps)] for method in SHOWN
    ]
    dense = _cell("prose", _at(rows, "dense", "params", 1.0))
    head = [f"perplexity (dense: {dense})", *(f"keep {keep} of params" for keep in keeps)]
    put_between(MARKS, table(head, body), file)


def _at(rows: Sequence[dict[str, Any]], method: str, of: str, keep: float) -> list[dict[str, Any]]:
    return [row for row in rows if (row["method"], row["of"], row["keep"]) == (method, of, keep)]


def sorted_rows(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return one line per method, best prose perplexity first, refused ones last."""
    methods = dict.fromkeys(row["method"] for row in rows)
    found = {m: [row for row in rows if row["method"] == m] for m in methods}
    order = sorted(found, key=lambda m: statistics.median(row.get("prose", float("inf")) for row in found[m]))
    return [_row(method, found[method]) for method in order]


def _row(method: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    if all("refused" in row for row in rows):
        return [method, str(len(rows)), "budget can't be met", *[""] * (len(SCORES) - 1)]
    return [method, str(len(rows)), *(_cell(name, rows) for name in SCORES)]


def _cell(score: str, rows: Sequence[dict[str, Any]]) -> str:
    values = [row[score] for row in rows if score in row]
    return spread(values, percent if score.endswith(("acc", "acc_norm")) else four)


def plot_quality(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw perplexity by size; chance is left out, its millions would flatten the rest."""
    points = []
    for method in SHOWN[1:]:
        for keep in (0.9, 0.8, 0.7):
            values = [row["prose"] for row in _at(rows, method, "params", keep) if "prose" in row]
            if values:
                points.append(FrontierPoint(keep, statistics.median(values), method))
    if points:
        plot_frontier(points, path, _at(rows, "dense", "params", 1.0)[0]["prose"])
