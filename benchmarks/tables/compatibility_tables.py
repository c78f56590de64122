"""Tables of where the package installs and where its results load."""

from __future__ import annotations

from typing import Any

from cells import table


def installs(results: dict[str, Any]) -> str:
    """Return how much of the package every way to install it brings."""
    rows = [(row["way"], f"{row['found']} of {row['modules']}") for row in results["rows"]]
    return "\n".join([
        "## Ways to install\n",
        "Each into an environment of its own, without the network; modules that a new interpreter finds.\n",
        table(["way", "modules"], rows),
        "",
    ])  # fmt: skip


def older_transformers(results: dict[str, Any]) -> str:
    """Return how far the outputs of results differ between two versions of transformers."""
    new, old = results["versions"]["transformers"], results["older"]
    rows = [(family, f"{difference:.1g}") for family, difference in results["differences"].items()]
    return "\n".join([
        "## Results in an older transformers\n",
        f"Tiny random networks, cut, then loaded by transformers {new} and {old}: the largest difference of "
        "their outputs, as a share of the largest output.\n",
        table(["family", "difference"], rows),
        "",
    ])  # fmt: skip
