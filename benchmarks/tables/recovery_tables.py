"""What recovery to a budget brings back, against a flat pass of equal CPU time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from cells import spread, table, three_places

Row = dict[str, Any]
ANSWERS = {"piqa_acc": "PIQA", "blimp_acc": "BLiMP"}
INTRODUCTION = """## Recovery to a budget: `--recover 20m`

{model}, cut to {keep:g} of its parameters and repaired, then trained on one thread for the CPU time that
the table says, writing texts included. `flat` is one epoch on text sampled from random first tokens, against
the dense model's whole distribution; other rows change one setting of `recovery`. Excess log-perplexity over
the dense model in nats per token: the mean over {kinds} kinds of text ({texts}), none of which was learned
from, prose and code alone, and the shares of right answers (dense: {answers}). Where no held-out loss
fell below the one before the first step, the weights before it are what is scored. {machine}; {seeds}.
"""


def recovery(results: Row) -> str:
    """Return the whole section."""
    rows: Sequence[Row] = results["rows"]
    dense, *others = rows
    texts = list(dense["nll"])
    seeds = len({row["seed"] for row in others if row["way"] not in ("dense", "repaired")})
    lines = []
    for way, minutes in dict.fromkeys((row["way"], row["minutes"]) for row in others):
        of_way = [row for row in others if (row["way"], row["minutes"]) == (way, minutes)]
        excess = [{name: row["nll"][name] - dense["nll"][name] for name in texts} for row in of_way]
        lines.append(
            [
                way,
                f"{minutes:g}" if minutes else "",
                spread([row["tokens"] for row in of_way if "tokens" in row], "{:,.0f}".format),
                spread([statistics.mean(one.values()) for one in excess], three_places),
                *(spread([one[name] for one in excess], three_places) for name in ("prose", "code")),
                *(spread([row[name] for row in of_way], "{:.1%}".format) for name in ANSWERS),
            ]
        )
    said = {
        "kinds": len(texts),
        "texts": ", ".join(texts),
        "answers": ", ".join(f"{title} {dense[name]:.1%}" for name, title in ANSWERS.items()),
        "seeds": "one seed" if seeds <= 1 else f"{seeds} seeds",
    }
    head = ["way", "CPU minutes", "tokens learned from", "mean excess", "prose", "code", *ANSWERS.values()]
    return f"{INTRODUCTION.format(**{**results, **said})}\n{table(head, lines)}\n"
