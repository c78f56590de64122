"""Tables of choosing channels at run time: what it is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from cells import remark, table, three_places

from prunepolicy.pruning.measure.intervals import Interval, mean_interval

Row = dict[str, Any]
POLICIES = {
    "generic": "`generic`, one choice for all texts",
    "plain": "`plain`, the prompt's own statistic",
    "blend": "`blend` of both",
    "offsets": "`offsets`, the blend times trained factors",
}
INTRODUCTION = """## Channels chosen at run time

{model}, {dtype}, {machine}, one thread; keep {keep} of the FFN channels, equal widths, nothing repaired. A
prompt is read with all channels; the {scored} tokens after it in its text are scored with those that were
chosen for it. Excess of their negative log-likelihood over the dense model's, nats per token, mean over
prompts of kinds of text that nothing was fitted to; intervals of 95 % over prompts. The generic statistic is
that of {generic}.
"""


def adaptive(results: Row) -> str:
    """Return the section on quality."""
    rows = results["rows"]
    lengths = sorted({row["prompt"] for row in rows})
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    parts = [INTRODUCTION.format(**results), *remark(results)]
    for length in lengths:
        excess = {policy: _excess(rows, length, policy) for policy in POLICIES}
        excess = {policy: of for policy, of in excess.items() if of}
        title = f"### {len(excess['generic'])} prompts of {length} tokens\n"
        parts += [title, _means(excess), "", _by_kind(excess, kinds), ""]
    return "\n".join(parts)


def _excess(rows: Sequence[Row], length: int, policy: str) -> dict[tuple[str, int], float]:
    """Return by prompt how much more is lost than by the dense model."""
    of = {(row["kind"], row["number"], row["policy"]): row["nll"] for row in rows if row["prompt"] == length}
    places = [place[:2] for place in of if place[2] == policy]
    return {place: of[*place, policy] - of[*place, "dense"] for place in places}


def _means(excess: dict[str, dict[tuple[str, int], float]]) -> str:
    lines = []
    for policy, mine in excess.items():
        against = [
            mean_interval([mine[place] - excess[other][place] for place in mine]).written(3)
            if other != policy
            else ""
            for other in ("generic", "plain")
        ]
        lines.append([POLICIES[policy], three_places(mean(mine.values())), *against])
    return table(["chosen by", "excess", "less `generic`", "less `plain`"], lines)


def _by_kind(excess: dict[str, dict[tuple[str, int], float]], kinds: Sequence[str]) -> str:
    lines = []
    for kind in kinds:
        of = [[value for place, value in found.items() if place[0] == kind] for found in excess.values()]
        if all(of):
            lines.append([kind, *(three_places(mean(values)) for values in of)])
    return table(["kind of text", *(f"`{policy}`" for policy in excess)], lines)


def adaptive_speed(results: Row) -> str:
    """Return the section on speed."""
    lines = []
    for phase in results["phases"]:
        dense, gain = phase["dense"], phase["speedup"]
        speed = f"{gain['ratio']:.3f} ({Interval(gain['low'], gain['high']).written(3, 1)})" if gain else ""
        before = f"{dense['median'] * 1e3:.1f}" if dense else ""
        after = f"{phase['adaptive']['median'] * 1e3:.1f}"
        lines.append([phase["phase"], before, after, f"{phase['share']:.1%}", speed, phase["verdict"] or ""])
    head = ["phase", "dense ms", "adaptive ms", "of dense prefill", "speed-up (95 %)", "verdict"]
    settings = ", ".join(f"{key} {value}" for key, value in results["settings"].items())
    note = (
        f"{results['model']}, keep {results['keep']}, batch 1, both ways in turn; decoding is per token, "
        f"every 16th of which is written densely; {settings}. The gathered weights take "
        f"{results['extra_bytes'] / 2**20:.0f} MiB beside the model's {results['model_bytes'] / 2**20:.0f}."
    )
    return "\n".join(
        ["## Speed of channels chosen at run time\n", f"{note}\n", *remark(results), table(head, lines), ""]
    )
