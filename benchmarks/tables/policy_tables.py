"""The comparison of policies: its tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cells import percent, spread, table, three_places

Row = dict[str, Any]
KEEPS = (0.9, 0.8, 0.7)
SHAPES = {True: "equal widths", False: "per layer"}
USUAL = "fisher x activation"
INTRODUCTION = """## Policies

{model}, {dtype}, {machine}, one thread; {texts}. Nothing was chosen, and no policy trained, on them.
All methods only choose what goes: nothing is repaired, unless it says so. Numbers are excess
log-perplexity over the dense model in nats per token (0.1 is a perplexity 10.5 % higher): median
(smallest to largest) over seeds, each with calibration data of its own, and for learned policies a
training of its own. Code was scored with the first seed. Criteria whose scores can't be compared
across layers have no place in the tables per layer, and PruneNet knows equal widths only. `graph` calibrates
on varied text, as the default does, the others on text from the start token.
"""
FIGURE = """![Excess by size, as a multiple of the best hand-made criterion's](policies.png)

Medians, with bars from the smallest to the largest seed. What loses more than 1.6 times as much as the
best hand-made criterion isn't drawn.
"""


@dataclass(frozen=True)
class Place:
    """A budget, and what was measured there.

    Attributes:
        text: `prose` or `code`, for the language model.
    """

    of: str
    keep: float
    uniform: bool
    block: str = "selection"
    model: str = "smollm2-135m"
    text: str = "prose"

    def __str__(self) -> str:
        where = f"{self.model.rpartition('/')[2]}: " if self.block == "small" else ""
        return f"{where}keep {self.keep:g} of {self.of}, {SHAPES[self.uniform]}"

    def fits(self, row: Row) -> bool:
        """Return whether a row was measured here."""
        names = ("of", "keep", "uniform", "block", "model")
        return all(row[name] == getattr(self, name) for name in names)


@dataclass(frozen=True)
class Comparison:
    """The rows of one results file."""

    rows: Sequence[Row]

    @cached_property
    def dense(self) -> Row:
        """The model as it is."""
        return next(row for row in self.rows if row["block"] == "dense")

    @cached_property
    def groups(self) -> dict[str, str]:
        """Every method's group."""
        return {row["method"]: row["group"] for row in self.rows if row["block"] != "dense"}

    def methods(self, block: str, group: str | None = None) -> list[str]:
        """Return the methods that a block has rows of."""
        there = {row["method"] for row in self.rows if row["block"] == block and "refused" not in row}
        return [name for name, its in self.groups.items() if name in there and group in (None, its)]

    def excess(self, method: str, place: Place) -> list[float]:
        """Return one number per seed; none where the method refused."""
        mine = [row for row in self.rows if row["method"] == method and place.fits(row)]
        if place.block == "small":
            return [row["excess"] for row in mine if "excess" in row]
        return [row[place.text] - self.dense[place.text] for row in mine if place.text in row]

    def best_hand_made(self, place: Place) -> tuple[str, float] | None:
        """Return the criterion with the lowest median at a budget, and the median."""
        found = {name: self.excess(name, place) for name in self.methods(place.block, "hand-made")}
        medians = {name: statistics.median(values) for name, values in found.items() if values}
        return min(medians.items(), key=lambda item: item[1]) if medians else None

    def relative(self, method: str, place: Place) -> list[float]:
        """Return each seed's excess over that of the best hand-made criterion."""
        best = self.best_hand_made(place)
        return [value / best[1] for value in self.excess(method, place)] if best else []

    def places(self) -> list[Place]:
        """Return where methods were compared, the language model first."""
        names = ("of", "keep", "uniform", "block", "model")
        blocks = ("selection", "small", "repaired")
        found = {Place(*(r[n] for n in names)) for r in self.rows if r["block"] in blocks}
        return sorted(found, key=lambda p: (p.block, p.model, not p.uniform, p.of, -p.keep))


def policies(results: dict[str, Any]) -> str:
    """Return the whole section, the figure's place included."""
    found = Comparison(results["rows"])
    parts = [INTRODUCTION.format(**results), *against_hand_made(found), FIGURE]
    for uniform, of in ((u, of) for u in SHAPES for of in ("ffn", "params")):
        texts = [Place(of, keep, uniform, text=text) for text in ("prose", "code") for keep in KEEPS]
        parts += ranking(f"Of {of}, {SHAPES[uniform]}", found, texts)
    parts += [*repaired(found), *questions(found, results), *seconds(found), *small_models(found)]
    return "\n".join(parts)


def small_models(found: Comparison) -> Iterator[str]:
    """All methods on every small model unseen in training, on text that it wrote."""
    for model in sorted({row["model"] for row in found.rows if row["block"] == "small"}):
        sizes = [Place("ffn", keep, True, "small", model, "own text") for keep in KEEPS]
        yield from ranking(f"{model.rpartition('/')[2]}, unseen in training", found, sizes)


def against_hand_made(
    found: Comparison,
    blocks: Sequence[str] = ("selection", "small"),
    title: str = "Learned policies against the best hand-made criterion",
) -> Iterator[str]:
    """How much less than the best hand-made criterion the learned policies lose."""
    learned = [name for group in ("rule", "learned") for name in found.methods(blocks[0], group)]
    rows = []
    for place in found.places():
        best = found.best_hand_made(place)
        if best and learned and place.block in blocks:
            shares = [_below(found.relative(method, place)) for method in learned]
            rows.append([place, f"{best[0]}: {best[1]:.3f}", *shares])
    if rows:
        yield f"### {title}\n"
        yield "How much lower (-) or higher (+) the median excess is than that of the criterion best there.\n"
        yield table(["budget", "best hand-made: excess", *learned], rows) + "\n"


def _below(shares: Sequence[float]) -> str:
    return f"{statistics.median(shares) - 1:+.1%}" if shares else ""


def ranking(title: str, found: Comparison, places: Sequence[Place]) -> Iterator[str]:
    """One table: everything that chooses, the best at the first three places first."""
    lines = []
    for method in found.methods(places[0].block):
        values = [found.excess(method, place) for place in places]
        medians = [statistics.median(seeds) for seeds in values[: len(KEEPS)] if seeds]
        if medians:
            cells = (spread(seeds, three_places) for seeds in values)
            line = [method, found.groups[method], max(map(len, values)), *cells]
            lines.append((statistics.mean(medians), line))
    if lines:
        yield f"### {title}\n"
        head = [f"{place.text}, keep {place.keep}" for place in places]
        ordered = sorted(lines, key=lambda item: item[0])
        yield table(["method", "kind", "seeds", *head], [line for _, line in ordered]) + "\n"


def repaired(found: Comparison) -> Iterator[str]:
    """The same with the default's repair."""
    places = [Place("ffn", keep, uniform, "repaired") for uniform in SHAPES for keep in (0.8, 0.7)]
    rows = [
        [method, *(spread(found.excess(method, place), three_places) for place in places)]
        for method in found.methods("repaired")
    ]
    if rows:
        yield "### With the default's repair\n"
        heads = [f"keep {place.keep}, {SHAPES[place.uniform]}" for place in places]
        yield table(["prose, of ffn, first seed", *heads], rows) + "\n"


def questions(found: Comparison, results: dict[str, Any]) -> Iterator[str]:
    """Zero-shot questions, beside the dense model."""
    dense = found.dense
    rows = [["dense", *(_kept(dense, dense, name) for name in ("piqa_acc", "piqa_acc_norm", "blimp_acc"))]]
    for row in found.rows:
        if row["block"] == "questions" and "refused" not in row:
            shares = (_kept(row, dense, name) for name in ("piqa_acc", "piqa_acc_norm", "blimp_acc"))
            repair = f", {row['repair']} repair" if row["repair"] else ""
            rows.append([row["method"] + repair, *shares])
    if rows[1:]:
        yield "### Zero-shot questions at keep 0.7 of ffn\n"
        count = results["questions"]
        yield (
            f"{count['piqa']} PIQA questions, {count['blimp']} BLiMP pairs; first seed; in brackets the "
            "share of the dense model's accuracy. Chance is 50 %.\n"
        )
        yield table(["method", "PIQA acc", "PIQA acc_norm", "BLiMP acc"], rows) + "\n"


def _kept(row: Row, dense: Row, name: str) -> str:
    return f"{percent(row[name])} ({row[name] / dense[name]:.0%})"


def seconds(found: Comparison) -> Iterator[str]:
    """What a plan takes on a model that is open."""
    spent = {}
    for method in found.methods("selection"):
        mine = [row for row in found.rows if (row["block"], row["method"]) == ("selection", method)]
        rows = [row for row in mine if "planning" in row]
        if rows:
            spent[method] = [statistics.median(r[name] for r in rows) for name in ("watching", "planning")]
    if USUAL not in spent:
        return
    cells = []
    for method, parts in sorted(spent.items(), key=lambda item: sum(item[1])):
        ratio = sum(parts) / sum(spent[USUAL])
        cells.append([method, f"{parts[0]:.1f}", f"{parts[1]:.2f}", f"{sum(parts):.1f}", f"{ratio:.2f}"])
    yield "### Seconds to plan\n"
    yield (
        "CPU seconds on one thread, the model in memory and the calibration data sampled; medians over all "
        f"budgets and seeds. The last column is a multiple of {USUAL}. Training a policy isn't "
        "counted: gates are trained for every network, and the published PruneNet for every shape.\n"
    )
    yield table(["method", "statistics", "plan", "together", "times"], cells) + "\n"
