"""Tables of speed: pruned against dense, start-up, and cutting beside copying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cells import table

from prunepolicy.commands.evaluate.bench import limit_sentence
from prunepolicy.pruning.measure.intervals import Interval


def latency(results: dict[str, Any]) -> str:
    """The measured speed-up beside what fewer FLOPs and bytes would give."""
    rows = []
    for name, report in results.items():
        for measured in report["measurements"]:
            speed = measured["speedup"]
            rows.append([
                name, measured["phase"], measured["batch"], f"{measured['before']['median'] * 1e3:.1f}",
                f"{measured['after']['median'] * 1e3:.1f}",
                f"{speed['ratio']:.3f} ({Interval(speed['low'], speed['high']).written(3, 1)})",
                f"{report['flop_ratio']:.3f}", f"{report['byte_ratio']:.3f}", measured["verdict"],
            ])  # fmt: skip
    head = [
        "cut",
        "phase",
        "batch",
        "dense ms",
        "pruned ms",
        "speed-up (95 %)",
        "FLOP ratio",
        "byte ratio",
        "verdict",
    ]
    report = next(iter(results.values()))
    settings = ", ".join(f"{key} {value}" for key, value in report["settings"].items())
    peak = report["ceilings"]
    limits = (
        f"{m['phase']}, batch {m['batch']}: "
        + limit_sentence(m["achieved_flops"] / peak["flops"], m["achieved_bandwidth"] / peak["bandwidth"])
        for m in report["measurements"]
    )
    return "\n".join([
        "## Speed\n", f"SmolLM2-135M-Instruct against itself, keep 0.8; {settings}.\n", table(head, rows), "",
        f"Limits ({next(iter(results))}):", *(f"- {limit}" for limit in limits), "",
    ])  # fmt: skip


def startup(results: dict[str, Any]) -> str:
    """Start-up times."""
    graph = results["graph_70b"]
    rows = [
        ["an empty Python process", f"{results['empty_python_seconds']:.2f}"],
        ["`prune-with-policy --help`", f"{results['help_seconds']:.2f}"],
        ["unit graph of a 70B LLaMA configuration, shapes at hand", f"{graph['unit_graph_seconds']:.3f}"],
        ["its shapes and unit graph", f"{graph['both_once_transformers_is_imported_seconds']:.3f}"],
        [
            "its shapes, importing transformers first",
            f"{graph['shapes_first_time_seconds']:.2f}",
        ],
    ]
    return "\n".join(["## Start-up\n", table(["what", "seconds (median)"], rows), ""])


def streaming(runs: Sequence[dict[str, Any]]) -> str:
    """Cutting a large checkpoint beside copying it."""
    rows = [
        [
            f"{run['source_bytes'] / 2**30:.1f} GiB",
            cache,
            run[cache]["copy_seconds"],
            run[cache]["cut_seconds"],
            f"{run[cache]['cut_over_copy']:.2f}",
            run[cache]["cut_peak_mib"],
            len(run[cache]["all_cut_seconds"]),
            run["machine"]["load_average"],
        ]
        for run in runs
        for cache in ("warm", "cold")
    ]
    head = ["checkpoint", "cache", "copy s", "cut s", "cut / copy", "peak MiB", "rounds", "load"]
    note = (
        "LLaMA-2-7B shapes in bfloat16, 0.7 of the FFN channels kept; importing torch alone takes "
        f"{runs[0]['import_only_peak_mib']} MiB."
    )
    return "\n".join(["## Streaming cut\n", note + "\n", table(head, rows), ""])
