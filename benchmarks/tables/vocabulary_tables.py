"""What a smaller vocabulary costs, in bits per byte, beside other cuts to the same number of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from cells import table

Row = Mapping[str, Any]
NAMES = {
    "default": "tokens, by what they cost",
    "by frequency": "tokens, by frequency in the calibration data",
    "by number": "tokens, by number",
    "random": "tokens, random",
    "with FFN": "tokens and FFN channels",
    "FFN alone": "FFN channels",
}
INTRODUCTION = """## Vocabulary

{model}, {dtype}, {machine}. Bits per byte, because tokens change, and their rise over the dense model on
{count} kinds of text ({texts}), on which nothing was chosen. Calibration data: {calibration}. Tokens are
neither repaired nor trained; FFN channels are repaired by reconstruction.
"""


def vocabulary(results: dict[str, Any]) -> str:
    """Return the section: the rise of every kind of text and the mean of these, one line per way and size."""
    kinds, rows = results["kinds"], results["rows"]
    dense = next(row for row in rows if row["way"] == "dense")
    head = ["keep of parameters", "what goes", "tokens", "channels", *kinds, "mean"]
    body = [["1", "dense", dense["tokens"], dense["channels"], *(dense[kind] for kind in kinds), ""]]
    for keep in sorted({row["keep"] for row in rows if row is not dense}, reverse=True):
        here = [row for row in rows if row["keep"] == keep]
        body += [_line(row, dense, kinds) for row in sorted(here, key=lambda row: _rise(row, dense, kinds))]
    return "\n".join([INTRODUCTION.format(**results, count=len(kinds)), table(head, body), ""])


def _line(row: Row, dense: Row, kinds: list[str]) -> list[object]:
    rises = [f"{row[kind] / dense[kind] - 1:+.1%}" for kind in kinds]
    mean_rise = f"{_rise(row, dense, kinds):+.1%}"
    return [f"{row['params']:.3f}", NAMES[row["way"]], row["tokens"], row["channels"], *rises, mean_rise]


def _rise(row: Row, dense: Row, kinds: list[str]) -> float:
    return mean(row[kind] / dense[kind] - 1 for kind in kinds)
