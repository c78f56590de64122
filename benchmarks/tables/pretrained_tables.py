"""Tables about networks that others trained, and about architectures that the pipeline was tried on."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from cells import percent, remark, spread, table

Rows = list[dict[str, Any]]
INTRODUCTION = """## Pretrained networks, without data models

Networks that others trained and packages carry, cut to the same FLOPs from their weights alone or from
256 unlabelled images; batch norms are measured again after the cut. {machine}, one thread; median and range
of the seeds, which move what is drawn and the order of training images. Fisher, taylor and group norm rank
over all layers, so that widths differ; random, magnitude and torch-pruning's default take the same share of
every layer, so that the tables compare ways to prune, not criteria alone.
"""
CNN = """### The six-convolution network of cifar-10-model

CIFAR-10's *test* images are the only ones at hand, so they are split: {train:,} to fit on, {validation:,} to
validate, {test:,} to test on. The numbers can't be compared with papers. As it came, the network names
{whole} of all {images:,} right; on the {test:,} test images {came}, and {remeasured} once its norms are
measured again (they were trained to remember little more than one batch). The same {epochs} epochs of
training bring the whole network to {tuned}, so that is what pruned ones compare with.
"""
LITE = """### EfficientNet-Lite0

Nothing is trained: too few photos. Evaluated on 20 labelled photos of foolbox (the whole network names {came}
of them right), and on five views of each, by how often the pruned network names what the whole one names.
Norms and gradients are measured on other, random views of the same photos, without labels.
"""
SMOKE = """### Other architectures, small

The whole pipeline on Fashion-MNIST with a few networks and steps ({machine}, one thread, one seed): the rows
say that every stage works there, not how good it is.

"""
COLUMNS = {
    "cnn6": ("method", "FLOPs reduced", "right after the cut", "trained", "times as fast", "seeds"),
    "efficientnet-lite0": ("method", "FLOPs reduced", "agrees", "photos right", "times as fast", "seeds"),
}


def pretrained_networks(results: dict[str, Any]) -> str:
    """Return the whole section."""
    rows, parts = results["rows"], [INTRODUCTION.format(**results), *remark(results)]
    for name, text in (("cnn6", _about_cnn(results)), ("efficientnet-lite0", _about_lite(rows))):
        own = [row for row in rows if row["network"] == name]
        parts.append(text)
        for speedup in sorted({row["speedup"] for row in own if "reached" in row}):
            parts.append(f"Cut to 1/{speedup:g} of the FLOPs:\n\n{_ranking(name, own, speedup)}\n")
    return "\n".join([*parts, verdict(rows), ""])


def metanet_smoke(results: dict[str, Any]) -> str:
    """Return what became of a network of every architecture that was tried."""
    head = ("network", "FLOPs reduced", "way", "dense", "right after the cut", "trained")
    lines = [
        (row["network"]["arch"], f"{one['reached']:.2f}", one["way"], *_three(one))
        for row in results["rows"]
        for one in row["outcomes"]
    ]
    return SMOKE.format(**results) + table(head, lines) + "\n"


def verdict(rows: Rows) -> str:
    """Say which way is best in every setting."""
    sentences = []
    for network, when, word in (("cnn6", "tuned", "trained"), ("efficientnet-lite0", "right_after", "cut")):
        for speedup in sorted({row["speedup"] for row in rows if "reached" in row}):
            own = [row for row in rows if row["network"] == network and row["speedup"] == speedup]
            quality = {method: mean(_values(own, method, when)) for method in _methods(own)}
            if quality:
                best = max(quality, key=lambda method: quality[method])
                sentences.append(
                    f"{network} at {speedup:g}x, {word}: {best} is ahead with {percent(quality[best])} on "
                    f"average, random keeps {percent(quality['random'])}."
                )
    return " ".join(sentences)


def _ranking(network: str, rows: Rows, speedup: float) -> str:
    own = [row for row in rows if row["speedup"] == speedup]
    last = "tuned" if network == "cnn6" else "right_after"
    methods = sorted(_methods(own), key=lambda method: -mean(_values(own, method, last)))
    return table(COLUMNS[network], [_cells(network, own, method) for method in methods])


def _cells(network: str, rows: Rows, method: str) -> list[str]:
    found = [row for row in rows if row["method"] == method]
    if network == "cnn6":
        quality = [_scores(found, "right_after", "accuracy"), _scores(found, "tuned", "accuracy")]
    else:
        quality = [_scores(found, "right_after", kind) for kind in ("agreement", "accuracy")]
    times = spread([row["latency"] for row in found], lambda value: f"{value:.2f}")
    reached = f"{mean(row['reached'] for row in found):.2f}"
    return [method, reached, *(spread(values, percent) for values in quality), times, str(len(found))]


def _methods(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows if "reached" in row))


def _values(rows: Rows, method: str, when: str) -> list[float]:
    found = [row for row in rows if row["method"] == method]
    return [row[when].get("agreement", row[when]["accuracy"]) for row in found]


def _scores(rows: Sequence[dict[str, Any]], when: str, kind: str) -> list[float]:
    return [row[when][kind] for row in rows]


def _about_cnn(results: dict[str, Any]) -> str:
    own = [row for row in results["rows"] if row["network"] == "cnn6"]
    whole = next(row for row in own if row["method"] == "dense, all images")
    dense = [row for row in own if row["method"] == "dense"]
    return CNN.format(
        **results["sizes"],
        whole=f"{whole['accuracy']:.2%}",
        images=whole["images"],
        came=percent(dense[0]["as_it_came"]["accuracy"]),
        remeasured=percent(dense[0]["right_after"]["accuracy"]),
        epochs=results["tune"]["epochs"],
        tuned=spread(_scores(dense, "tuned", "accuracy"), percent),
    )


def _about_lite(rows: Rows) -> str:
    own = [row for row in rows if row["network"] == "efficientnet-lite0"]
    dense = next(row for row in own if row["method"] == "dense")
    return LITE.format(came=round(20 * dense["as_it_came"]["accuracy"]))


def _three(outcome: dict[str, Any]) -> list[str]:
    return [percent(outcome[key]) for key in ("dense", "right_after", "recovered")]
