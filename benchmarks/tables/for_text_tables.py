"""What a text is worth to a choice, over how much of it was shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from cells import put_between, table, three_places

Row = dict[str, Any]
Excess = Mapping[tuple[str, int, float], dict[str, float]]
"""By scorer, tokens shown and keep: the excess of every kind of text, its mean over seeds."""
SEEDS = range(3)
DENSE, WITHOUT_TEXT = "dense", ("generic", "generic_offsets", "default")
BLEND = "blend"
NAMES = {
    "ahead": "blend with what the model goes on with",
    "offsets": "what the model goes on with, times trained factors",
    "default": "today's default criterion (fisher x activation), any text",
    "generic": "activation, any text",
    "generic_offsets": "control: the trained factors on activation, any text",
    "plain": "activation, n tokens alone",
    "ahead_text": "blend with what the model goes on with; the repair reads the n tokens alone",
    "low_rank": "low-rank prior over written texts",
}
INTRODUCTION = """## Choosing for a text

{model}, {dtype}, {machine}, one thread, {seeds}, FFN channels, equal widths, nothing repaired.
Mean excess log-perplexity over the dense model, nats per token, on {texts}, none of which had a part in
fitting: {kinds}.
n tokens of a text are shown, {scored} tokens behind the longest showing are scored. Scorers were fitted to
{written} that the model wrote itself. A seed has other tokens shown, a scorer fitted to another
part of the written texts, and the model go on otherwise; trained factors are the same for all seeds.
"""


def for_text(results: Row) -> str:
    """Return the whole section."""
    found = excess_of(results["rows"])
    kinds = list(dict.fromkeys(row["kind"] for row in results["rows"]))
    seeds = len({row["seed"] for row in results["rows"]})
    facts = {
        "seeds": "one seed" if seeds == 1 else f"{seeds} seeds",
        "kinds": ", ".join(kinds),
        "scored": results["texts"].split()[0],
    }
    parts = [INTRODUCTION.format(**results | facts | {"texts": f"{len(kinds)} kinds of text"})]
    for keep in sorted({keep for _, _, keep in found}, reverse=True):
        here = {(scorer, n): cells for (scorer, n, size), cells in found.items() if size == keep}
        whole = {place: cells for place, cells in here.items() if len(cells) == len(kinds)}
        if whole:
            counted = seeds_of(results["rows"], keep)
            parts += [f"### Keep {keep:g}\n", _curve(whole, counted), "", _sentence(whole, keep), ""]
    parts += ["### Against the blend\n", _against_blend(results["rows"]), ""]
    first = max((keep for _, _, keep in found), default=0)
    parts += [f"### Kind by kind, keep {first:g}, n = 512\n", _by_kind(found, first, kinds), ""]
    return "\n".join(parts)


MARKS = ("<!-- for text: written by make docs -->", "<!-- end of for text -->")
SHOWN = {
    ("generic", False): "text of all kinds, for the choice and the repair",
    ("generic", True): "text of all kinds for the choice, the text, too, for the repair",
    ("ahead", True): "the text, for both: `--for`",
}
"""In README: a scorer and whether tokens are shown, in words."""
REPAIRED = """## Choosing for a text, after the default's repair

The same texts, tokens and excess, {seeds}, keep {keep:g}. The repair (`reconstruction`) is calibrated on
text of all kinds and, where n tokens are shown, on these and on what the model goes on with after them, as
`--for` does, whatever the choice was made on.
"""
"""Of choices that the repair followed."""


def write_readme_for_text(repaired: Row, file: Path) -> None:
    """Put the short table between README's marks."""
    found, lengths, keep = excess_of(repaired["rows"]), (128, 512), 0.7
    body = [
        [
            words,
            *(three_places(mean(found[scorer, n if shown else 0, keep].values())) for n in lengths),
        ]
        for (scorer, shown), words in SHOWN.items()
    ]
    head = ["what is read", *(f"{n} tokens of the text" for n in lengths)]
    put_between(MARKS, table(head, body), file)


def for_text_repaired(results: Row) -> str:
    """Return the section on what is left of a choice's worth after the repair."""
    rows = [row for row in results["rows"] if row["scorer"] != DENSE]
    keep, seeds = rows[0]["keep"], len({row["seed"] for row in rows})
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    found = {place: cells for place, cells in excess_of(results["rows"]).items() if len(cells) == len(kinds)}
    lines = [
        [
            NAMES.get(scorer, scorer),
            n or "none",
            three_places(mean(cells.values())),
            *map(three_places, cells.values()),
        ]
        for (scorer, n, _), cells in sorted(found.items(), key=lambda item: mean(item[1].values()))
    ]
    counted = "one seed" if seeds == 1 else f"{seeds} seeds"
    head = ["chosen by", "tokens shown", "mean", *kinds]
    return "\n".join([REPAIRED.format(keep=keep, seeds=counted), table(head, lines), ""])


def excess_of(rows: list[Row]) -> Excess:
    """Return the excess over the dense model."""
    dense = {row["kind"]: row["nll"] for row in rows if row["scorer"] == DENSE}
    cells: dict[tuple[str, int, float], dict[str, list[float]]] = {}
    for row in rows:
        if row["scorer"] != DENSE:
            of = cells.setdefault((row["scorer"], row["n"], row["keep"]), {})
            of.setdefault(row["kind"], []).append(row["nll"] - dense[row["kind"]])
    return {place: {kind: mean(found) for kind, found in of.items()} for place, of in cells.items()}


def seeds_of(rows: list[Row], keep: float) -> dict[str, int]:
    """Return with how many seeds every scorer was measured."""
    seeds: dict[str, set[int]] = {}
    for row in rows:
        if row["keep"] == keep:
            seeds.setdefault(row["scorer"], set()).add(row["seed"])
    return {scorer: len(found) for scorer, found in seeds.items()}


def _curve(whole: Mapping[tuple[str, int], dict[str, float]], seeds: Mapping[str, int]) -> str:
    """One line per scorer, the lowest first; a choice without the text is the same for every n."""
    shown = sorted({n for _, n in whole if n})
    lines = []
    for scorer in dict.fromkeys(name for name, _ in whole):
        places = [(scorer, 0 if scorer in WITHOUT_TEXT else n) for n in shown]
        values = [mean(whole[place].values()) if place in whole else None for place in places]
        known = [value for value in values if value is not None]
        cells = ["" if value is None else three_places(value) for value in values]
        lines.append((mean(known), [NAMES.get(scorer, scorer.replace("_", " ")), seeds[scorer], *cells]))
    head = ["chosen by", "seeds", *(f"n = {n:,}" for n in shown)]
    return table(head, [line for _, line in sorted(lines, key=lambda line: line[0])])


def _against_blend(rows: list[Row]) -> str:
    """One line per scorer and place: what it takes off the blend's excess with the same seeds."""
    by_seed = {
        seed: excess_of([r for r in rows if r["seed"] == seed or r["scorer"] == DENSE]) for seed in SEEDS
    }
    generic, kinds = by_seed[0], {row["kind"] for row in rows}
    lines = []
    for (scorer, n, keep), cells in excess_of(rows).items():
        both = [
            (found.get((scorer, n, keep), {}), found.get((BLEND, n, keep), {})) for found in by_seed.values()
        ]
        pairs = [pair for pair in both if all(len(each) == len(kinds) for each in pair)]
        if scorer in (BLEND, *WITHOUT_TEXT) or not pairs:
            continue
        gains = [1 - mean(own.values()) / mean(blend.values()) for own, blend in pairs]
        won = sum(mean(own[kind] - blend[kind] for own, blend in pairs) < 0 for kind in cells)
        whole = generic["generic", 0, keep]
        worst = max(cells, key=lambda kind: cells[kind] / whole[kind])
        lines.append(
            [
                NAMES.get(scorer, scorer.replace("_", " ")),
                f"{keep:g}",
                n,
                f"{mean(gains):.1%}" + (f" ({min(gains):.1%} to {max(gains):.1%})" if len(gains) > 1 else ""),
                f"{won} of {len(cells)}",
                f"{worst}, {cells[worst] / whole[worst] - 1:+.0%}",
            ]
        )
    head = ["chosen by", "keep", "n", "lower by (seeds)", "kinds lower", "worst kind against any text"]
    return table(head, sorted(lines, key=lambda line: (-float(line[1]), line[2], line[0])))


def _sentence(whole: Mapping[tuple[str, int], dict[str, float]], keep: float) -> str:
    """Say what reading the text is worth at best, and where it is worth least."""
    generic = whole.get(("generic", 0))
    parts = []
    for n in sorted({n for _, n in whole if n}):
        readers = {scorer: cells for (scorer, m), cells in whole.items() if m == n}
        best = min(readers, key=lambda scorer: mean(readers[scorer].values()))
        if generic is not None:
            gain = 1 - mean(readers[best].values()) / mean(generic.values())
            worst = max(readers[best], key=lambda kind: readers[best][kind] / generic[kind])
            change = readers[best][worst] / generic[worst] - 1
            name = best.replace("_", " ")
            parts.append(f"n = {n:,}: {name}, {gain:.0%} (worst kind: {worst}, {change:+.0%})")
    return (
        f"The best scorer at keep {keep:g}, and by how much its excess is lower than that of the activation "
        f"criterion on any text: {'; '.join(parts)}."
    )


def _by_kind(found: Excess, keep: float, kinds: list[str], shown: int = 512) -> str:
    """One line per kind of text."""
    places = [
        (scorer, 0 if scorer in WITHOUT_TEXT else shown, keep)
        for scorer in dict.fromkeys(name for name, _, _ in found)
    ]
    there = [place for place in places if place in found]
    rows = [
        [kind, *(three_places(found[place][kind]) if kind in found[place] else "" for place in there)]
        for kind in kinds
    ]
    return table(["text", *(scorer.replace("_", " ") for scorer, _, _ in there)], rows)
