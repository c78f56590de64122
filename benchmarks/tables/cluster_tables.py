"""Tables of what distribution costs and gains."""

from __future__ import annotations

from typing import Any

from cells import percent, table


def cluster(results: dict[str, Any]) -> str:
    """Rates by workers, the price of a job, and the simulated schedule."""
    parts = [_scaling(results), _prices(results), _thousand(results["thousand"])]
    return "\n".join(["## Cluster\n", *parts])


def _scaling(results: dict[str, Any]) -> str:
    rows = []
    for row in results["scaling"]:
        rates = [f"{rate:.4g}" for rate in row["per_second"]]
        efficiency = "" if row["efficiency"] is None else percent(row["efficiency"])
        rows.append([f"{row['ms']} ms", row["way"], *rates, *[""] * (2 - len(rates)), efficiency])
    note = (
        "Episodes a second of environments that burn a set amount of processor time, by where they live; the "
        f"efficiency is the rate of two workers over twice that of one. {results['machine']}, "
        f"{results['cores']} cores, load {results['load_average']}."
    )
    return note + "\n\n" + table(["episode", "way", "1 worker", "2 workers", "efficiency"], rows) + "\n"


def _prices(results: dict[str, Any]) -> str:
    rows = [[row["way"], f"{row['ms']:.3f}", f"{row['driver_ms']:.3f}"] for row in results["prices"]]
    note = "What a job costs that has nothing to do: two workers, as many numbers as an episode has."
    return note + "\n\n" + table(["way", "ms per job", "of which the driver's processor"], rows) + "\n"


def _thousand(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['episode_seconds']:g} s",
            f"{row['workers']:,}",
            f"{row['episodes_per_second']:,.0f}",
            percent(row["efficiency"]),
            percent(row["driver_busy"]),
            f"{row['message_mib_per_second']:.2f}",
            f"{row['shared_gib_once']:.1f}",
        ]
        for row in found["rows"]
    ]
    full = ", ".join(f"{n:,} workers at {s} s" for s, n in found["driver_full_at_workers"].items())
    note = (
        "Simulated, not measured: rollouts of four episodes per worker whose lengths vary by 30 %, 16 "
        f"workers a node, with the price of a Ray job from above. The driver has no time left from {full}."
    )
    head = [
        "episode",
        "workers",
        "episodes/s",
        "efficiency",
        "driver busy",
        "MiB/s of messages",
        "GiB shared once",
    ]
    return note + "\n\n" + table(head, rows) + "\n"


def faults(found: list[dict[str, Any]]) -> str:
    """What became of work whose workers were lost."""
    rows = [[row["what"], " ".join(row["said"]), "equal" if row["equal"] else "differ"] for row in found]
    note = "Real clusters on one machine (`lost_node.py` and `out_of_memory.py` in `benchmarks/measure/`)."
    return "### Lost workers\n\n" + note + "\n\n" + table(["what", "the log", "results"], rows) + "\n"
