"""The result's report.html: verdict, what changed with its error, what went per layer, how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from xml.etree.ElementTree import Element

from prunepolicy.agents.runtime.html_page import answers, commands, element, page, section, table
from prunepolicy.agents.runtime.svg_charts import Cell, ratio_bar, strip
from prunepolicy.commands.report.card import CARD_NAMES, layer_rows, limits, run_facts, totals
from prunepolicy.commands.report.plots import place_name, places
from prunepolicy.commands.report.report import KeptUnits, PruneReport
from prunepolicy.commands.report.report_view import (
    Comparison,
    asked_and_reached,
    capitalised,
    less_is_better,
    scored_on,
)
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.measure.speedup import Speedup
from prunepolicy.pruning.units import KIND_NAMES, Keep

PAGE = "report.html"
GROUPS = {"size": "Size", "memory": "Memory", "speed": "Speed", "quality": "Quality"}
NUMBERED = 128
"""Units of a group up to which those that went are listed by number, as heads and experts are."""


def write_page(report: PruneReport, keep: Keep, folder: Path) -> None:
    """Write `report.html` into `folder`.

    Args:
        keep: the units that stayed, by group.
    """
    write_text(folder / PAGE, report_page(report, keep))


def report_page(report: PruneReport, keep: Keep) -> str:
    """Return the report as one HTML file, the same text for the same report."""
    title = f"{report.origin.model}, pruned"
    refused = report.proof is not None and not report.proof.ok
    return page(
        title,
        element("h1", title),
        element("p", headline(report), class_="verdict bad" if report.degraded or refused else "verdict"),
        element("p", f"{capitalised(asked_and_reached(report))}. {report.verdict}", class_="soft"),
        section("What changed", *_changes(report)),
        section("What went", *_strips(report, keep)),
        section("The same prompts before and after", *_answers(report)),
        section("Limits", element("ul", *(element("li", line) for line in limits(report, CARD_NAMES)))),
        section("How to repeat it", *commands(_commands(report)), table(("", ""), run_facts(report))),
    )


def headline(report: PruneReport) -> str:
    """Return the outcome in one line: size, speed, quality, and whether it loads."""
    saved = 1 - report.after.cost.weight_bytes / report.before.cost.weight_bytes
    parts = [f"{saved:.1%} smaller", *(_pace(name, gain) for name, gain in report.speedups.items())]
    parts += [
        f"{row.name[0].lower()}{row.name[1:]} {_change(row)}"
        for row in less_is_better(report)
        if row.group == "quality"
    ]
    if report.proof is not None:
        parts.append("proven to load" if report.proof.ok else "not proven to load")
    return capitalised("; ".join(parts)) + "."


def _pace(workload: str, gain: Speedup) -> str:
    name = workload.split(" (")[0].lower()
    return (
        f"{name} {gain.ratio:.2f} times as fast" if gain.interval.excludes(1) else f"{name}: {gain.verdict}"
    )


def _change(row: Comparison) -> str:
    return f"{row.before} → {row.after}" + ("" if row.shown else " (no difference shown)")


def _changes(report: PruneReport) -> Iterator[Element]:
    """Yield every quantity with a bar, group by group, and what they were measured on."""
    yield element(
        "p",
        "After, as a multiple of before: less is better throughout. The line in the middle is 1, the ends "
        "are a quarter and four; whiskers are 95 % intervals; grey where no difference was shown.",
        class_="soft",
    )
    rows = less_is_better(report)
    for group, heading in GROUPS.items():
        inside = [row for row in rows if row.group == group]
        if inside:
            yield element("h3", heading)
            yield element("div", *map(_row, inside), class_="changes")
    on = [scored_on(report), f"Measured on {report.origin.machine}." if report.origin.machine else ""]
    if any(on):
        yield element("p", " ".join(filter(None, on)), class_="soft")


def _row(row: Comparison) -> Element:
    kind = "open" if not row.shown else "worse" if row.ratio > 1 else "better"
    error = f" ({row.interval.written(3, null=1)})" if row.interval else ""
    return element(
        "div",
        element("span", row.name),
        element("span", f"{row.before} → {row.after}"),
        element("span", f"{row.ratio:.3g}x{error}", class_="ratio" if row.shown else "ratio unclear"),
        ratio_bar(row.ratio, row.interval, kind),
        class_="change",
    )


def _strips(report: PruneReport, keep: Keep) -> Iterator[Element]:
    """Yield a strip per kind of unit with a cell per layer, and the same as a table."""
    by_kind: dict[str, dict[int, list[KeptUnits]]] = {}
    for place, units in places(report):
        by_kind.setdefault(units.kind, {}).setdefault(place, []).append(units)
    name = place_name(report)
    for kind, by_place in by_kind.items():
        if all(units.kept == units.size for same in by_place.values() for units in same):
            continue
        cells = [_cell(f"{name} {place}", units, keep) for place, units in sorted(by_place.items())]
        first, last = min(by_place), max(by_place)
        yield element("h3", f"{capitalised(KIND_NAMES[kind])}, {name} {first} to {last}")
        yield strip(cells, f"{KIND_NAMES[kind]} kept by {name}")
    head, rows = layer_rows(report)
    untouched = [KIND_NAMES[kind] for kind, size, kept in totals(report.kept) if kept == size]
    if untouched:
        yield element("p", f"All stay: {', '.join(untouched)}.", class_="soft")
    if rows:
        dashed = (
            "Cells are filled as far as their units stayed; dashed ones went whole. Point at one to see what."
        )
        yield element("p", dashed, class_="soft")
        yield element("details", element("summary", "The same as a table"), table(head, rows))


def _cell(place: str, groups: Sequence[KeptUnits], keep: Keep) -> Cell:
    size, kept = sum(units.size for units in groups), sum(units.kept for units in groups)
    if not kept:
        return Cell(None, f"{place}: removed")
    words = f"{place}: {kept} of {size} {KIND_NAMES[groups[0].kind]} stay, {size - kept} went"
    gone = _numbers(groups[0], keep) if len(groups) == 1 else ""
    return Cell(kept / size, f"{words}{gone}")


def _numbers(units: KeptUnits, keep: Keep) -> str:
    """Return which units of a small group went."""
    if units.group not in keep or units.size > NUMBERED or units.kept == units.size:
        return ""
    gone = sorted(set(range(units.size)) - set(keep[units.group]))
    return f": {', '.join(map(str, gone))}"


def _answers(report: PruneReport) -> Iterator[Element]:
    pairs = zip(report.before.samples, report.after.samples, strict=False)
    for number, (prompt, pair) in enumerate(zip_longest(report.prompts, pairs)):
        if pair is not None:
            before, after = pair
            yield answers(prompt or f"Prompt {number + 1}", [("before", before), ("after", after)])


def _commands(report: PruneReport) -> Iterator[tuple[str, str]]:
    """Yield what repeats the run, and what measures its result again."""
    model, folder = report.origin.model, report.folder or "DIR"
    if report.origin.command:
        yield "The whole run", report.origin.command
    yield (
        "The cut alone, from the plan in this folder",
        _line("cut", model, f"{folder}/plan.json", *report.origin.texts, "--out", "OUT"),
    )
    if report.task == "causal":
        yield "Its speed beside the dense model's", _line("bench", folder, "--against", model)
        yield "Its quality on a text of yours", _line("eval", folder, "--text", "FILE", "--against", model)
        yield "Both models' answers to a prompt of yours", _line("chat", model, folder, "--prompt", "TEXT")


def _line(*words: str) -> str:
    return shlex.join(["prunepolicy", *words])
