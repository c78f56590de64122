"""What calibration and repair take: seconds against width, and memory of a model that doesn't fit."""

from __future__ import annotations

from typing import Any

from cells import table

REPAIR = """## Calibration and repair against width

One layer of random weights, FFN four times as wide as the hidden states, {tokens:,} tokens, keep {keep} of
the channels. CPU seconds on one thread ({machine}), beside other work. `re-fit` is the part of the repair
that chooses the ridge and solves; earlier versions factorised in double precision for each of {candidates}
candidates, of which one was timed (shown is that times {candidates}, and the moments). `differs by` is the
relative deviation of the single-precision solution from the one in double precision, at one ridge. Peak
memory is that of the process so far, the earlier versions' way included.
"""
STREAMED = """## A model that doesn't fit: layer by layer

A random model of {layers} layers, {model_gib:.2f} GiB in bfloat16, on {tokens:,} tokens: whole, and read
layer by layer in a process that the system allows {limit_gib:g} GiB of data. CPU seconds on one thread
({machine}), beside other work; reading all its tensors once takes {seconds_to_read_once}. Activations take
one pass over them, gradients two, the repair three.
"""


def repair_cost(results: dict[str, Any]) -> str:
    """Return the section about seconds against width."""
    head = [
        "FFN width", "texts", "statistics", "repair", "of it re-fit", "re-fit before", "differs by",
        "factor", "library's factor", "peak GiB",
    ]  # fmt: skip
    rows = [_widths_row(row, results["candidates"]) for row in results["rows"]]
    return f"{REPAIR.format(**results)}\n{table(head, rows)}\n"


def _widths_row(row: dict[str, Any], candidates: int) -> list[object]:
    steps, before = row["steps"], row.get("before")
    seconds = [f"{steps[name]:.2f}" for name in ("texts", "statistics", "repair", "fit")]
    earlier = ["", "", "", ""]
    if before:
        total = before["moments"] + candidates * before["candidate"]
        factors = (f"{before[name]:.2f}" for name in ("own_factor", "library_factor"))
        earlier = [f"{total:.2f}", f"{row['deviation']:.0e}", *factors]
    return [row["width"], *seconds, *earlier, f"{row['peak_bytes'] / 2**30:.2f}"]


def layer_by_layer(results: dict[str, Any]) -> str:
    """Return the section about a model that doesn't fit."""
    rows = [
        [row["way"], *row["cpu_seconds"].values(), f"{row['peak_bytes'] / 2**30:.2f}"]
        for row in results["rows"]
    ]
    head = ["way", *results["rows"][0]["cpu_seconds"], "peak GiB"]
    sizes = {"model_gib": results["model_bytes"] / 2**30, "limit_gib": results["limit_bytes"] / 2**30}
    return f"{STREAMED.format(**results, **sizes)}\n{table(head, rows)}\n"
