"""Tables of what training costs, and of what the published update learns."""

from __future__ import annotations

from typing import Any

from cells import table

TIMES = ("before", "after")


def episodes(results: dict[str, Any]) -> str:
    """Episodes per second, beside the published cost."""
    published = results["published_seconds"]
    rows = []
    for row in results["rows"]:
        per_second = row["episodes_per_second"]
        cells = [row["network"], f"{row['units']:,}", row["way"], row["processes"], f"{per_second:.4g}"]
        # The published cost is that of one network; another size has nothing to compare with.
        rows.append([*cells, f"{per_second * published:,.0f}" if row["network"] == "smollm2-135m" else ""])
    head = ["network", "units", "stepped in", "processes", "episodes a second", "times the published"]
    note = (
        "`prunepolicy/Prune-v0` with random actions, the quality predicted by the surrogate; "
        f"{results['machine']}, load {results['load_average']}. An episode decides on every layer. "
        f"The published procedure takes {published:.2f} s for one episode of the same network "
        f"({results['published']})."
    )
    return "\n".join(["## Episodes\n", note + "\n", table(head, rows), ""])


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
