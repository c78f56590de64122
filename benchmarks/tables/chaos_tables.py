"""What was tried to break this package, what failed, and what is promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cells import table

Rows = dict[str, dict[str, int]]
PROMISES = {
    "fuzz": ("damaged files", "it is read, or refused in one sentence; no traceback, no code, no hang"),
    "kills": (
        "kills by SIGKILL at an open, write, rename, removal, truncation or fsync",
        "the output is the old or the new one; the same call again ends with the same bytes, nothing else",
    ),
    "full_disk": (
        "places that are full, broken, read-only, missing or no folder",
        "it does without, or says so in one sentence; with space the same call ends as if nothing had been",
    ),
    "hostile_server": (
        "answers of a zoo's server that lie, trickle, circle or don't end",
        "signed bytes or one sentence, within the limits on time and bytes; nothing else is installed",
    ),
}
FAILED = "failed"


def chaos(found: Mapping[str, dict[str, Any]]) -> str:
    """One line per attack, and one per kind of what was attacked."""
    known = {name: results["rows"] for name, results in found.items() if name in PROMISES}
    lines = [
        [PROMISES[name][0], f"{tried(rows):,}", _came(rows), f"{failed(rows):,}", PROMISES[name][1]]
        for name, rows in known.items()
    ]
    parts = [
        "## Tried, failed, promised\n",
        "Attempts so far by `make chaos`, whose counts a rerun continues. Every attempt can be made again by "
        "its number: what failed is tried first in the next run, and counts as what comes of it then.\n",
        table(["tried", "attempts", "of which", "failed", "promised"], lines),
        "",
    ]
    for name, rows in known.items():
        cells = [
            [case, f"{sum(row.values()):,}", _came({case: row}), f"{failed({case: row}):,}"]
            for case, row in sorted(_grouped(rows).items())
        ]
        heading = f"### {PROMISES[name][0].capitalize().replace('sigkill', 'SIGKILL')}\n"
        parts += [heading, table(["case", "attempts", "of which", "failed"], cells), ""]
    return "\n".join(parts)


def tried(rows: Rows) -> int:
    """Return the number of attempts."""
    return sum(sum(row.values()) for row in rows.values())


def failed(rows: Rows) -> int:
    """Return the number of failures."""
    return sum(row.get(FAILED, 0) for row in rows.values())


def _grouped(rows: Rows) -> Rows:
    """Sum up what differs in its last detail only: recipes, and deeds on one kind of disk."""
    sums: Rows = {}
    for case, row in rows.items():
        name = "recipes" if case.startswith("recipe: ") else case.partition(", ")[0]
        known = sums.setdefault(name, {})
        for came, count in row.items():
            known[came] = known.get(came, 0) + count
    return sums


def _came(rows: Rows) -> str:
    """Return how many attempts came to what, failures aside."""
    sums: dict[str, int] = {}
    for row in rows.values():
        for came, count in row.items():
            sums[came] = sums.get(came, 0) + count
    return ", ".join(f"{count:,} {came}" for came, count in sorted(sums.items()) if came != FAILED)
