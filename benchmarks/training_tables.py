"""Tables of what training costs, and of what the published update learns."""

from __future__ import annotations

from typing import Any

from cells import table

DECIDES = {"group": "one group", "all": "everything"}
TIMES = ("before", "after")


def episodes(results: dict[str, Any]) -> str:
    """Episodes per second, beside the published cost."""
    published, rows = results["published_seconds"], results["rows"]
    ways = dict.fromkeys((row["way"], row["processes"]) for row in rows)
    lines = []
    for case in dict.fromkeys((row["network"], row["units"], row["step"]) for row in rows):
        here = [row for row in rows if (row["network"], row["units"], row["step"]) == case]
        rates = {(row["way"], row["processes"]): row["per_second"] for row in here}
        # The published cost is that of one network; another size has nothing to compare with.
        times = f"{max(rates.values()) * published:,.0f}" if case[0] == "smollm2-135m" else ""
        cells = [f"{rates[way]:.4g}" if way in rates else "" for way in ways]
        lines.append([case[0], f"{case[1]:,}", DECIDES[case[2]], *cells, times])
    head = [
        "network",
        "units",
        "an action decides on",
        *(f"{way}, {n}" for way, n in ways),
        "best / published",
    ]
    note = (
        "Episodes a second of `prunepolicy/Prune-v0` with random actions, the quality predicted by the "
        f"surrogate, by where it is stepped and in how many processes; {results['machine']}, load "
        f"{results['load_average']}. The published procedure takes {published:.2f} s for one episode of the "
        f"same network ({results['published']})."
    )
    return "\n".join(["## Episodes\n", note + "\n", table(head, lines), ""])


def prunenet_episode(results: dict[str, Any]) -> str:
    """One episode of PruneNet, as published and here."""
    rows = [
        ["published: full decomposition, predictor run twice", f"{results['published_seconds']:.3f}", ""],
        ["the same reward here", *_timed(results, "same_reward")],
        ["the mended reward", *_timed(results, "function_aware")],
    ]
    note = (
        f"{results['setting']}; {results['machine']}. Largest difference between the two rewards that "
        f"should be the same: {results['largest_difference_of_rewards']:g}."
    )
    head = ["reward of one episode", "seconds", "times faster"]
    return "\n".join(["## A PruneNet episode\n", note + "\n", table(head, rows), ""])


def _timed(results: dict[str, Any], name: str) -> tuple[str, str]:
    return f"{results[f'{name}_seconds']:.3f}", f"{results[f'{name}_times_faster']:.1f}"


def prunenet_saturation(results: dict[str, Any]) -> str:
    """What the published update learns, and what each mend changes."""
    rows = [[name, "", "", "", "", f"{distance:.4f}"] for name, distance in results["rules"].items()]
    for name, found in results["learned"].items():
        chances = [
            f"{found[f'{what} {when}']:.3f}" for what in ("sigmoid of scores", "spread") for when in TIMES
        ]
        rows.append([name, *chances, f"{found['ks']:.4f}"])
    note = (
        f"{results['setting']}; {results['machine']}. The published update drives all keep probabilities "
        "to 1, so that its choice drifts to chance. Every line adds one mend; the spectral distance (KS) is "
        "what the reward asks for, less is better."
    )
    head = ["learner", "mean keep before", "after", "spread before", "after", "KS"]
    return "\n".join(["## What PruneNet's update learns\n", note + "\n", table(head, rows), ""])
