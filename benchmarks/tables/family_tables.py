"""Tables of which units can go from which model types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cells import put_between, table

from prunepolicy.pruning.units import KIND_NAMES

KINDS = ("ffn", "kv_head", "query_head", "expert", "layer", "vocabulary")
MARKS = ("<!-- families, written by `make docs` -->", "<!-- end of families -->")
"""Between these, README shows the short table."""


def families(results: dict[str, Any]) -> str:
    """Return what can go from every model type, and why the rest stays."""
    rows = results["rows"]
    passed = sum(all(row["kinds"].values()) and bool(row["kinds"]) for row in rows)
    derived = sum(not row["by_hand"] for row in rows)
    body = [
        [row["model_type"], "by hand" if row["by_hand"] else "derived", *_marks(row), "; ".join(_stays(row))]
        for row in rows
    ]
    head = ["model type", "groups", *(KIND_NAMES[kind] for kind in KINDS), "what stays, and why"]
    return "\n".join([
        "## Model types\n",
        f"Tiny random networks of {len(rows)} model types, {derived} of which no file describes: what is "
        f"offered was cut in half and compared with the masked network; {passed} types offer something, all "
        f"of which passes. transformers {results['versions']['transformers']}; `make families` repeats it.\n",
        table(head, body),
        "",
    ])  # fmt: skip


def write_readme_families(results: dict[str, Any], file: Path) -> None:
    """Put the short table between README's marks: model types by what can go."""
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in results["rows"]:
        alike[tuple(kind for kind in KINDS if row["kinds"].get(kind))].append(row["model_type"])
    order = sorted(alike, key=lambda kinds: (-len(kinds), kinds))
    body = [[_named(kinds), ", ".join(sorted(alike[kinds]))] for kinds in order if kinds]
    put_between(MARKS, table(["what can go", "model types"], body), file)


def _named(kinds: Sequence[str]) -> str:
    return ", ".join(KIND_NAMES[kind].removesuffix(" per KV head") for kind in kinds)


def _marks(row: dict[str, Any]) -> list[str]:
    """Return a cell per kind: whether it passes, where it is offered."""
    return [{True: "yes", False: "**fails**", None: ""}[row["kinds"].get(kind)] for kind in KINDS]


def _stays(row: dict[str, Any]) -> list[str]:
    """Return why kinds aren't offered."""
    names = KIND_NAMES | {"all": "all"}
    return [f"{names[kind]}: {why.rstrip('.')}" for kind, why in row["stays"].items()]
