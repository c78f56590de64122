"""Which experts may go: the rise of the loss by criterion, calibrated on all kinds of text or on one."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, median
from typing import Any

from cells import spread, table

Row = Mapping[str, Any]
ALL = "all"
INTRODUCTION = """## Experts

{model}; trained by the benchmark on equally much of {kinds}; {machine}. Rise of the negative
log-likelihood over the dense model, nats per token, on {scored} that it never read: median over
{seeds} draws of calibration data ({calibration}), and the range. Equal numbers of experts go from every
layer; nothing is repaired. The best of a line is bold.
"""


def experts(results: dict[str, Any]) -> str:
    """Return the section: a line per share of experts, calibration data and kind of text."""
    rows = results["rows"]
    dense = {row["kind"]: row["nll"] for row in rows if row["criterion"] == "dense"}
    pruned = [row for row in rows if row["criterion"] != "dense"]
    criteria = list(dict.fromkeys(row["criterion"] for row in pruned))
    places = dict.fromkeys((row["calibrated"], row["kind"]) for row in pruned)
    body = [
        [f"{keep:.0%}", calibrated, kind, *_cells(here, criteria, dense[kind])]
        for keep in sorted({row["keep"] for row in pruned}, reverse=True)
        for calibrated, kind in places
        if (
            here := [
                row
                for row in pruned
                if (row["keep"], row["calibrated"], row["kind"]) == (keep, calibrated, kind)
            ]
        )
    ]
    facts = results | {
        "kinds": " and ".join(", ".join(dense).rsplit(", ", 1)),
        "seeds": len({row["seed"] for row in pruned}),
    }
    head = ["experts kept", "calibrated on", "scored on", *criteria]
    return "\n".join([INTRODUCTION.format(**facts), table(head, body), ""])


def mean_rises(results: dict[str, Any], keep: float) -> dict[str, float]:
    """Return the mean rise over the kinds of text by criterion, calibrated on all of them."""
    rows = [row for row in results["rows"] if row["calibrated"] == ALL]
    dense = {row["kind"]: row["nll"] for row in rows if row["criterion"] == "dense"}
    here = [row for row in rows if row["keep"] == keep]
    criteria = dict.fromkeys(row["criterion"] for row in here)
    return {
        name: mean(row["nll"] - dense[row["kind"]] for row in here if row["criterion"] == name)
        for name in criteria
    }


def _cells(here: list[Row], criteria: list[str], dense: float) -> list[str]:
    """Return the rise by criterion, the lowest median bold."""
    rises = [[row["nll"] - dense for row in here if row["criterion"] == name] for name in criteria]
    best = min(median(values) for values in rises if values)
    cells = [spread(values, "{:+.3f}".format) for values in rises]
    return [
        f"**{cell}**" if values and median(values) == best else cell
        for values, cell in zip(rises, cells, strict=True)
    ]
