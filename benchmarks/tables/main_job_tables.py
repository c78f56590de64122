"""The table of the main job's time, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cells import table

STEPS = {
    "read the model": ("load",),
    "sampled texts": (
        "calibration data",
        "sample evaluation",
        "probe",
        "text to score",
        "let the model write",
    ),
    "statistics": ("collect", "activations", "gate gradients", "watch", "statistics"),
    "plan": ("plan",),
    "repair": ("repair",),
    "cut": ("cut",),
    "proof of loading": ("load in a clean process", "prove"),
    "perplexity and samples": (
        "measure perplexity",
        "sample generations",
        "perplexity",
        "samples",
        "measure quality",
        "let both write",
    ),
    "latency": ("measure latency", "speed", "measure speed"),
}
"""Rows of the table, and how the steps in them begin, in this version or one before."""


def main_job(results: dict[str, Any]) -> str:
    """The processor's time for every part of the job, before and after, for the first size and the second."""
    runs = [run for run in (results["before"], results["rows"]) if run]
    columns = [_by_part(row for row in run if row["size"] == size) for run in runs for size in (0, 1)]
    rows = [[part, *(_seconds(column.get(part)) for column in columns)] for part in STEPS]
    rows.append(["all", *(f"{sum(column.values()):.0f}" for column in columns)])
    sizes = [f"keep {keep:g}" for keep in results["keep"]]
    head = ["seconds of processor time", *_headings(sizes, len(runs))]
    first, second = (sum(column.values()) for column in columns[-2:])
    machine = results["machine"]
    return "\n".join([
        "## The main job, step by step\n",
        f"{results['model']}, both sizes from one run that began with an empty cache (before: two runs); "
        f"{machine['processor']}, {machine['threads']} thread(s) of a machine that others used, too (load "
        f"{machine['load_average']}), hence time of the processor, children included. Speed is timed for a "
        "fixed time.\n",
        table(head, rows),
        "",
        f"The second size takes {first / second:.1f} times less than the first. What doesn't depend on the "
        "size is done once; repair, proof of loading and measurements have to see every result.",
        "",
    ])  # fmt: skip


def _headings(sizes: Sequence[str], runs: int) -> list[str]:
    names = ("before", "now") if runs == 2 else ("now",)
    return [f"{name}, {size}" for name in names for size in sizes]


def _by_part(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Return the seconds of every part; the longest beginning that fits a step decides."""
    starts = {start: part for part, all_starts in STEPS.items() for start in all_starts}
    found: dict[str, float] = {}
    for row in rows:
        fitting = [start for start in starts if row["step"].startswith(start)]
        part = starts[max(fitting, key=len)]
        found[part] = found.get(part, 0.0) + row["processor"]
    return found


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
