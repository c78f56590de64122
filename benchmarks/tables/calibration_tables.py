"""What the calibration data is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cells import table, three_places

Row = dict[str, Any]
KEEPS = (0.9, 0.8, 0.7)
INTRODUCTION = """## Calibration data

{model}, {dtype}, {machine}, one thread; one seed, equal widths, nothing repaired. Excess log-perplexity over
the dense model on the first 4096 tokens of prose (two stories) and of code. `self` is text sampled from
the dense model, `varied` the same with every second text from a random token on, `other pages` the rest of
the same stories, as a user's own text would be (`--probe FILE`), and with both, `--probe self+FILE`, half
of the pieces are of either kind. Gates trained on the evaluation pages
themselves are a lower bound, not a method.
"""


def calibration(results: Row) -> str:
    """Return the whole section."""
    rows = results["rows"]
    dense = next(row for row in rows if row["method"] == "dense")
    parts = [INTRODUCTION.format(**results)]
    for of in ("ffn", "params"):
        here = [row for row in rows if row["of"] == of and row["method"] != "dense"]
        parts += [f"### Of {of}\n", _table(here, dense), ""] if here else []
    return "\n".join(parts)


def _table(rows: Sequence[Row], dense: Row) -> str:
    """One line per method and text, the lowest on prose first."""
    lines = []
    for method, text in dict.fromkeys((row["method"], row["text"]) for row in rows):
        mine = {row["keep"]: row for row in rows if (row["method"], row["text"]) == (method, text)}
        cells = [
            three_places(mine[keep][scored] - dense[scored]) if keep in mine else ""
            for scored in ("prose", "code")
            for keep in KEEPS
        ]
        lines.append((sum(row["prose"] for row in mine.values()) / len(mine), [method, text, *cells]))
    head = [f"{scored}, keep {keep}" for scored in ("prose", "code") for keep in KEEPS]
    ordered = sorted(lines, key=lambda line: line[0])
    return table(["method", "calibration or training data", *head], [line for _, line in ordered])
