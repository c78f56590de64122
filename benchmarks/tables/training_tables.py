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
        "Episodes a second of `Prune-v0` with random actions, the quality predicted by the "
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
        ["Gram matrices and one count of eigenvalues alone", *_timed(results, "one_count")],
        ["the corrected reward", *_timed(results, "function_aware")],
    ]
    note = (
        f"{results['setting']}; {results['machine']}. Largest difference between the two rewards that "
        f"should be the same: {results['largest_difference_of_rewards']:g}. The third line is the "
        "least that counting eigenvalues takes, without any reward: the Gram matrices of the rows that stay, "
        "and the number of eigenvalues below one threshold, in single precision. The statistic moves in "
        "steps of one eigenvalue, 1/576, so a reward within 1e-3 is an exact one."
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


def surrogate(results: dict[str, Any]) -> str:
    """How well the surrogate and short texts know which plans are better."""
    lines = []
    for row in results["rows"]:
        shape = "equal widths" if row["uniform"] else "per layer"
        kind, _, shrinkage = row["by"].partition(" ")
        what = f"surrogate, shrinkage {shrinkage}" if kind == "surrogate" else "measured on texts"
        searched = f"{row['searched']:.2f}" if "searched" in row else ""
        taus = (f"{row[name]:.2f}" for name in ("tau", "tau_all_sizes"))
        lines.append([row["model"], shape, what, f"{row['amount']}", *taus, searched])
    note = (
        "Kendall's tau with the rise of the loss measured on many texts, among plans of equal and of all "
        "sizes; `searched` is the measured rise of the plan that a search on the surrogate finds, as a share "
        f"of the Fisher ranking's; {results['machine']}."
    )
    head = ["model", "widths", "predicted by", "samples", "tau, equal size", "tau, all sizes", "searched"]
    return "\n".join(["## Surrogate\n", note + "\n", table(head, lines), ""])


def small_models(results: dict[str, Any]) -> str:
    """The small models that graph policies are trained and evaluated on."""
    lines = [
        [row["name"], f"{row['parameters']:,}", f"{row['steps']:,}", f"{row['validation_perplexity']:.1f}"]
        for row in results["models"]
    ]
    head = ["model", "parameters", "steps", "validation perplexity"]
    note = "Trained by `make models` from the prose in installed packages; held-out documents validate."
    return "\n".join(["## Small models\n", note + "\n", table(head, lines), ""])
