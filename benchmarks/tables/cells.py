"""Cells and tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from prunepolicy.pruning.io.atomic import write_text


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def spread(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Return the median, and the range where there are several values; nothing for none."""
    if not values:
        return ""
    middle = write(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({write(min(values))} to {write(max(values))})"


def percent(value: float) -> str:
    """Write a share."""
    return f"{value:.1%}"


def four(value: float) -> str:
    """Write four digits."""
    return f"{value:.4g}" if value < 10_000 else f"{value:,.0f}"


def three_places(value: float) -> str:
    """Write three digits after the point."""
    return f"{value:.3f}"


def remark(results: dict[str, Any]) -> list[str]:
    """Return what has to be known of how results came about, as paragraphs: none where one run wrote them."""
    return [f"{results['remark']}\n"] if "remark" in results else []


def put_between(marks: tuple[str, str], text: str, file: Path) -> None:
    """Replace what stands between two marks in a document."""
    first, last = marks
    before, _, rest = file.read_text(encoding="utf-8").partition(first)
    write_text(file, f"{before}{first}\n{text}\n{last}{rest.partition(last)[2]}")
