"""What knowledge distillation after the cut brings back."""

from __future__ import annotations

import math
from typing import Any

from cells import four, table

Row = dict[str, Any]
INTRODUCTION = """## Knowledge distillation after the cut: `--recover 1`

{model}, cut in parameters; then one epoch of knowledge distillation from the dense model, on 512
texts of 128 tokens sampled from it (`self`; `varied`: every second from a random token on), or on the
user's: `other pages` are the rest of the stories whose first 4096 tokens are scored. {machine}, one thread,
one seed; seconds are CPU seconds of the whole command, beside other work, without scoring. The default
repairs by reconstruction before that, or by ridge where the table says so.
"""


def recover(results: Row) -> str:
    """Return the whole section."""
    dense, *others = results["rows"]
    lines = [["dense", 1.0, "", "", *_perplexities(dense), ""]]
    for row in others:
        seconds = f"{row['cpu_seconds']:.0f}"
        policy = f"{row['policy']}, {row['repair']}" if row["repair"] else row["policy"]
        lines.append([policy, row["keep"], row["text"], row["recover"], *_perplexities(row), seconds])
    head = [
        "policy",
        "keep",
        "calibration and distillation data",
        "epochs",
        "perplexity of prose",
        "of code",
        "seconds",
    ]
    return f"{INTRODUCTION.format(**results)}\n{table(head, lines)}\n"


def _perplexities(row: Row) -> list[str]:
    return [four(math.exp(row[text])) for text in ("prose", "code")]
