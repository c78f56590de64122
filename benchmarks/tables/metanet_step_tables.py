"""What a meta-step takes, and what reading a language model takes."""

from __future__ import annotations

from typing import Any

from cells import remark, table

INTRODUCTION = """## A meta-step

One step on {network}, with {batches} batches of {images} images: the metanetwork ({layers} layers,
width {hidden}), the network forwards and back on every batch, and back through the metanetwork. CPU seconds
of one thread, and the largest memory of the whole process; medians over {repeats} of each way. Numbers too
small for normal floats count as 0. "The network" is its part of the seconds, where it is known apart.
Gradients are compared as a share of their norm: with the published procedure's, or for our graph with those
of messages and one pass back per batch.
"""
RATIOS = """Against the published procedure, the whole step takes {time:.1f} times less CPU time and
{memory:.1f} times less memory. With `{flags}`, gradients differ by {exact:.0e} at most, which suggests that
what differs above is rounding.
"""
LANGUAGE_MODEL = """### A language model in one pass

SmolLM2-135M, a metanetwork of {layers} layers and width {hidden}, streamed block by block: {nodes:,} nodes,
{edges:,} edges. {read_parameters:,} parameters are read and written, {carried_parameters:,} (the embedding,
which is the head too) carried. It takes {seconds:.0f} CPU seconds and {peak_mib:,.0f} MiB at most,
{start_mib:,.0f} MiB of them before it begins; the states of all edges of one layer alone would take
{edge_states_mib:,.0f} MiB.
"""
HEAD = ("way", "nodes", "edges", "seconds", "the network", "peak MiB", "gradients differ by")


def metanet_step(results: dict[str, Any]) -> str:
    """Return the section."""
    ways, apart = results["ways"], results["gradient_differences"]
    rows = [
        (
            way["what"],
            f"{way['nodes']:,.0f}",
            f"{way['edges']:,.0f}",
            f"{way['seconds']:.1f}",
            f"{way['network_seconds']:.1f}" if way["network_seconds"] else "",
            f"{way['peak_mib']:,.0f}",
            f"{apart[name]:.0e}" if name in apart else "",
        )
        for name, way in ways.items()
    ]
    published, ours = ways["published"], ways["ours"]
    exact = {name: value for name, value in results["gradient_differences_exact"].items() if name != "flags"}
    ratios = RATIOS.format(
        time=published["seconds"] / ours["seconds"],
        memory=published["peak_mib"] / ours["peak_mib"],
        flags=" ".join(results["gradient_differences_exact"]["flags"]),
        exact=max(exact.values()),
    )
    introduction = INTRODUCTION.format(repeats=results["repeats"], **results["step"])
    return "\n".join(
        [
            introduction,
            *remark(results),
            table(HEAD, rows),
            "",
            ratios,
            LANGUAGE_MODEL.format(**results["smollm2-135m"]),
        ]
    )
