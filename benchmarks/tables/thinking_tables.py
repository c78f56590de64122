"""Tables of when to think: rewards on a simulated model, collapse and balance, success-rate shaping."""

from __future__ import annotations

from statistics import median
from typing import Any

from cells import four, percent, spread, table, three_places

Results = dict[str, Any]


def think_bandit(results: Results) -> str:
    """Rewards against rules, and what happens to who can't tell prompts apart."""
    rows = results["rows"]
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        here = [row for row in rows if row["name"] == name]
        bins = [median(column) for column in zip(*(row["bins"] for row in here), strict=True)]
        cells = [
            _spread(here, "regret", three_places),
            _spread(here, "accuracy", percent),
            _spread(here, "tokens", four),
            _spread(here, "gain", three_places),
            " ".join(f"{100 * share:.0f}" for share in bins),
        ]
        lines.append([name, *cells])
    note = (
        "Decisions of a policy that sees a simulated model's difficulty through noise, on prompts that "
        f"nobody learned from: medians, ranges; {results['setting']}; {results['machine']}. Regret is what "
        "the oracle of AutoThink's naive reward gets more; the gain is the accuracy above that of a router "
        "that thinks as often about prompts drawn by chance. Rewards of other methods have other oracles."
    )
    head = ["decided by", "regret", "accuracy", "tokens", "gain over chance", "thinks, % by difficulty"]
    parts = ["## When to think, on a simulated model\n", note + "\n", table(head, lines), ""]
    return "\n".join([*parts, _hidden(results), _shaped(results), _speeds(results)])


def _hidden(results: Results) -> str:
    rows = results["hidden"]
    lines = []
    for name, scale in dict.fromkeys((row["name"], row["advantage"]) for row in rows):
        here = [row for row in rows if (row["name"], row["advantage"]) == (name, scale)]
        settles = "" if name == "naive" else _spread(here, "equilibrium", percent)
        lines.append([name, scale, _spread(here, "think", percent), settles])
    note = (
        "The same policy when nothing of the difficulty is seen: how often it thinks in the end. Balance "
        "holds it near the equilibrium, where the penalty eats what thinking is worth more, unless "
        "advantages are divided by their group's deviation: in groups of nearly one mode that erases the "
        "penalty's size."
    )
    head = ["reward", "advantages divided by deviation of", "thinks", "equilibrium"]
    return "\n".join([note + "\n", table(head, lines), ""])


def _shaped(results: Results) -> str:
    rows = results["shaped"]
    lines = []
    for start in dict.fromkeys(row["start"] for row in rows):
        for name in dict.fromkeys(row["name"] for row in rows):
            here = [row for row in rows if (row["name"], row["start"]) == (name, start)]
            cells = [_spread(here, column, three_places) for column in ("first", "last")]
            lines.append([percent(start), name, *cells])
    note = "Success-rate shaping and none: regret while learning, by how often it answers at once at first."
    head = ["answers at once at first", "reward", "regret, batches 1 to 100", "batches 281 to 300"]
    return "\n".join([note + "\n", table(head, lines), ""])


def _speeds(results: Results) -> str:
    lines = [[row["way"], f"{row['per_second']:,}"] for row in results["speeds"]]
    note = "Steps a second of `Think-v0` with three terms paid, on one core."
    return "\n".join([note + "\n", table(["stepped as", "steps a second"], lines), ""])


def success_rate_control(results: Results) -> str:
    """Success-rate shaping where the reward is hardly ever seen."""
    lines = []
    for way in dict.fromkeys(row["way"] for row in results["rows"]):
        here = [row for row in results["rows"] if row["way"] == way]
        first = [row["first_success"] for row in here]
        seen = spread([n for n in first if n], lambda n: f"{n:.0f}") or "never"
        missing = sum(n is None for n in first)
        cells = [_spread(here, column, percent) for column in ("training", "last_quarter", "greedy")]
        lines.append(
            [way, seen + (f"; never for {missing} of {len(first)}" if missing and any(first) else ""), *cells]
        )
    note = (
        f"{results['setting']}; {results['machine']}. The reward is 1 at the top and 0 elsewhere; tabular "
        "Q-learning with replay. Medians and ranges of the share of episodes that reach the top."
    )
    head = [
        "shaped by",
        "first success, episode",
        "in training",
        "in its last quarter",
        "without exploration",
    ]
    return "\n".join(["## Success-rate shaping on a control task\n", note + "\n", table(head, lines), ""])


def router_overhead(results: Results) -> str:
    """Streams through the routing proxy beside streams without it."""
    lines = []
    for count in dict.fromkeys(row["streams"] for row in results["rows"]):
        for way, served in (("direct", "the server"), ("router", "the proxy")):
            here = [row for row in results["rows"] if (row["streams"], row["way"]) == (count, way)]
            columns = ("first_p50", "first_p99", "part_p50", "part_p99", "cpu_ms")
            lines.append([count, way, *(_spread(here, column, four) for column in columns), served])
    loads = [row["load"] for row in results["rows"]]
    note = (
        f"Milliseconds from one client to a stand-in server that sends {results['parts']} parts "
        f"{results['pace']:g} s apart, direct and through `prunepolicy think serve`, in turn; prompts of "
        f"{results['prompt']:,} characters; median (smallest to largest) over rounds. {results['machine']}, "
        f"{results['cores']} cores, load average {min(loads):.1f} to {max(loads):.1f}: where that is more "
        "than the cores, latencies are mostly waiting for a core, and the CPU time is what can be compared."
    )
    head = [
        "streams at a time",
        "way",
        "first part, p50",
        "first part, p99",
        "a part, p50",
        "a part, p99",
        "CPU time an answer",
        "of",
    ]
    return "\n".join(["## What the routing proxy costs\n", note + "\n", table(head, lines), ""])


def _spread(rows: list[Results], column: str, write: Any) -> str:
    return spread([row[column] for row in rows], write)
