"""The comparison of ways to prune convolution networks: its tables and figure."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

from cells import percent, remark, spread, table

from prunepolicy.agents.runtime.plotting import LINES, picture

INTRODUCTION = """## Metanetworks: rewriting weights before the cut

{name} of width {width} on {source} at {side} x {side} pixels, {train:,} training images; {machine}, one
thread. Every method starts from the same three dense networks ({dense} epochs), trains {before} epochs before
the cut and {after} after it, or as many after it at once (`cut first`), and is cut to the same FLOPs.
Test accuracy on all 10,000 test images: median and range of the seeds. The best epoch is the best on
validation images, never on test images. How many times as fast: both networks in turn on 128 images, beside
other work, so roughly.

`group norm` and `random` train without any penalty before the cut; `sparse training` and `DepGraph`
(torch-pruning's own pruner and regulariser) with one of strength {strength}, chosen on validation images of
a network that no row is about. The metanetworks learned {steps} steps from {family} further dense networks,
which no other method needs; the best step was chosen right after cuts of yet another one. On the shuffled
graph every weight's edges join wrong channels; without a graph it is a function of single weights; with
sparse training, the network is trained with that penalty before the cut. `gates` multiplies what is read of
every channel instead of changing weights one by one; `scores` rewrites nothing and corrects group norms, and
so do `decisions`, one per layer, learned from the rewards of cuts that are drawn around them. `9 networks`
learned from so many, three times the steps.
Scratch-E and Scratch-B start the pruned shape of `group norm` from nothing, with the dense network's epochs
and FLOPs.
"""
TRANSFER = """### The same metanetworks on other networks

Test accuracy right after the cut, norm statistics measured again, and after {after} epochs more; one network
each, trained for {epochs} epochs, which no metanetwork has seen.

"""
DRAWN = (
    "group norm",
    "sparse training",
    "metanetwork",
    "random, cut first",
    "group norm, cut first",
    "scratch-B",
)
"""Methods of the figure; there are as many styles of lines, and one more."""
COLUMNS = (
    "method",
    "FLOPs reduced",
    "right after the cut",
    "last epoch",
    "best epoch",
    "times as fast",
    "seeds",
)


def metanet(results: dict[str, Any]) -> str:
    """Return the whole section."""
    rows = results["rows"]
    speedups = sorted({row["speedup"] for row in rows})
    parts = [_introduction(results), *remark(results)]
    parts += [_ranking(rows, speedup) for speedup in speedups if speedup > 1]
    return "\n".join([*parts, verdict(rows), "", "![Test accuracy by reduction of FLOPs](metanet.png)", ""])


def metanet_transfer(results: dict[str, Any]) -> str:
    """Return what the same metanetworks do to networks of other shapes and images."""
    settings = list(dict.fromkeys(row["setting"] for row in results["rows"]))
    head = ("network and images", "dense", "FLOPs reduced", "way", "right after the cut", "trained")
    lines = [
        (
            row["setting"],
            percent(row["dense"]),
            f"{row['speedup']:g}x",
            row["way"],
            percent(row["right_after"]),
            percent(row["trained"]),
        )
        for row in sorted(results["rows"], key=lambda row: (settings.index(row["setting"]), row["speedup"]))
    ]
    return TRANSFER.format(**results) + table(head, lines) + "\n"


def verdict(rows: list[dict[str, Any]]) -> str:
    """Return what the numbers say of the two goals: dense accuracy at 2x, and ahead of all others at 3x.

    The metanetwork is that of the way to use one that is best on validation images.
    """
    dense = _last(rows, "dense", 1.0)
    sentences = []
    for speedup in (2.0, 3.0):
        way = best_way(rows, speedup)
        own = _last(rows, way, speedup)
        best = best_other(rows, speedup)
        points = ", ".join(f"{100 * value:+.2f}" for value in paired_differences(rows, way, best, speedup))
        sentences.append(
            f"At {speedup:g}x the metanetwork used in the way that is best on validation images ({way}) "
            f"keeps {percent(mean(own))} on average, against "
            f"{percent(mean(dense))} dense, {percent(mean(_last(rows, 'group norm', speedup)))} for group "
            f"norm alone and {percent(mean(_last(rows, best, speedup)))} for the best method, {best}. "
            f"Seed by seed that is {points} points."
        )
    return " ".join(sentences)


def paired_differences(rows: list[dict[str, Any]], way: str, rival: str, speedup: float) -> list[float]:
    """Return by how much `way` is ahead of `rival` on every seed that the two share."""
    found = [
        {row["seed"]: row["last"] for row in rows if (row["method"], row["speedup"]) == (method, speedup)}
        for method in (way, rival)
    ]
    return [found[0][seed] - found[1][seed] for seed in sorted(found[0].keys() & found[1].keys())]


def best_other(rows: list[dict[str, Any]], speedup: float) -> str:
    """Return the method with the highest mean accuracy among those that use no metanetwork."""
    return max(_trained(rows, speedup), key=lambda method: mean(_last(rows, method, speedup)))


def best_way(rows: list[dict[str, Any]], speedup: float) -> str:
    """Return the way to use a metanetwork that is best on validation images."""
    return max(_ways(rows), key=lambda way: mean(_of(rows, way, speedup, "validation")))


def plot_metanet(results: dict[str, Any], path: Path) -> None:
    """Draw test accuracy over FLOPs reduced as a PNG: means, with bars from the smallest to the largest seed.

    Of the ways to use a metanetwork it has the published one, and the best on validation images; of the
    others those that are near the best.
    """
    rows = results["rows"]
    dense = _last(rows, "dense", 1.0)
    methods = [*DRAWN, best_way(rows, 3.0)]
    with picture(path, (6.8, 4.4)) as axes:
        axes.axhline(mean(dense), color="black", linestyle=":", label="dense")
        for number, (method, (colour, marker)) in enumerate(zip(methods, LINES, strict=True)):
            places = [s for s in (2.0, 3.0) if _last(rows, method, s)]
            found = [_last(rows, method, s) for s in places]
            bars = [[mean(f) - min(f) for f in found], [max(f) - mean(f) for f in found]]
            aside = [s + 0.03 * (number - len(methods) / 2) for s in places]
            style = {"color": colour, "marker": marker, "capsize": 2, "label": method}
            axes.errorbar(aside, [mean(f) for f in found], yerr=bars, **style)
        axes.set(
            xlabel="FLOPs reduced, times",
            ylabel="test accuracy",
            title="The same epochs for all but scratch-B",
        )
        axes.set_xticks([2, 3])
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(1, 0))


def _introduction(results: dict[str, Any]) -> str:
    images, network, learning = results["images"], results["network"], results["learning"]
    strengths = results["strengths"]
    return INTRODUCTION.format(
        name=network["arch"],
        width=network["width"],
        machine=results["machine"],
        dense=results["dense"]["epochs"],
        before=results["before"]["epochs"],
        after=results["after"]["epochs"],
        strength=max(strengths, key=lambda strength: strengths[strength]),
        **{key: images[key] for key in ("source", "side", "train")},
        **learning,
    )


def _ranking(rows: list[dict[str, Any]], speedup: float) -> str:
    methods = sorted(
        {row["method"] for row in rows if row["speedup"] == speedup},
        key=lambda method: (-mean(_last(rows, method, speedup)), method),
    )
    dense = [_cells(rows, "dense", 1.0)]
    return f"### {speedup:g}x\n\n{table(COLUMNS, dense + [_cells(rows, m, speedup) for m in methods])}\n"


def _cells(rows: list[dict[str, Any]], method: str, speedup: float) -> list[str]:
    found = [row for row in rows if row["method"] == method and row["speedup"] == speedup]
    times = lambda value: f"{value:.2f}"  # noqa: E731
    after = [] if method.startswith("scratch") else [row["right_after"] for row in found]
    return [
        method,
        f"{mean(row['reached'] for row in found):.2f}",
        spread(after, percent),
        spread([row["last"] for row in found], percent),
        spread([row["best"] for row in found], percent),
        spread([row["latency"] for row in found], times),
        str(len(found)),
    ]


def _last(rows: list[dict[str, Any]], method: str, speedup: float) -> list[float]:
    return _of(rows, method, speedup, "last")


def _of(rows: list[dict[str, Any]], method: str, speedup: float, what: str) -> list[float]:
    return [row[what] for row in rows if row["method"] == method and row["speedup"] == speedup]


def _ways(rows: list[dict[str, Any]]) -> list[str]:
    """Return the ways to use a metanetwork, without the controls that see less than it."""
    methods = dict.fromkeys(row["method"] for row in rows if row["method"].startswith("metanetwork"))
    return [method for method in methods if not method.endswith(("shuffled graph", "no graph"))]


def _trained(rows: list[dict[str, Any]], speedup: float) -> list[str]:
    """Return the methods that a metanetwork is to beat: all but itself and the controls."""
    methods = dict.fromkeys(row["method"] for row in rows if row["speedup"] == speedup)
    return [method for method in methods if not method.startswith(("metanetwork", "scratch"))]
